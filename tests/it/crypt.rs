//! Encrypted archives. The program is a stand-in here, which keeps to the form of `age` and to its
//! manners; `tests/real/` has the real one.

use crate::backup::{tree, with_files};
use crate::sandbox::{Said, Sandbox, said};
use crate::storage::{KEY, Storage};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// `age`, save that it only shifts the bytes: `age1x` is the recipient of `AGE-SECRET-KEY-x`.
const AGE: &str = r#"
export LC_ALL=C
mode= to= key=
while [ $# -gt 0 ]; do
  case $1 in
    -e | -d) mode=$1 ;;
    -r) to="$to $2"; shift ;;
    -R) to="$to $(cat "$2")" || exit 1; shift ;;
    -i) key=$(cat "$2") || exit 1; shift ;;
    *) echo "age: error: unknown $1" >&2; exit 1 ;;
  esac
  shift
done
t=$(mktemp); u=$(mktemp)
trap 'rm -f "$t" "$u"' EXIT
cat > "$t"
if [ "$mode" = -e ]; then
  n=$(wc -c < "$t"); pieces=$(( (n + 65535) / 65536 )); [ "$pieces" -gt 0 ] || pieces=1
  echo age-encryption.org/v1
  for one in $to; do
    case $one in age1bad*) echo "age: error: malformed recipient" >&2; exit 1 ;; esac
    echo "-> X $one"
  done
  echo "--- $(cksum < "$t" | tr -d ' ')"
  head -c 16 /dev/zero
  tr '\000-\377' '\200-\377\000-\177' < "$t"
  head -c $((pieces * 16)) /dev/zero
else
  lines=$(grep -an '^--- ' "$t" | head -n 1 | cut -d: -f1)
  if ! head -n "${lines:-0}" "$t" | grep -aqx -e "-> X age1${key#AGE-SECRET-KEY-}"; then
    echo "age: error: no identity matched any of the recipients; tried $key" >&2
    echo "age: report unexpected or unhelpful errors at https://example.org" >&2
    exit 1
  fi
  header=$(head -n "$lines" "$t" | wc -c)
  rest=$(( $(wc -c < "$t") - header - 16 ))
  n=$(( rest - (rest + 65551) / 65552 * 16 ))
  tail -c +$((header + 17)) "$t" | head -c "$n" | tr '\000-\377' '\200-\377\000-\177' | tee "$u"
  if [ "--- $(cksum < "$u" | tr -d ' ')" != "$(head -n "$lines" "$t" | tail -n 1)" ]; then
    echo "age: error: failed to decrypt and authenticate payload chunk" >&2
    exit 1
  fi
fi
"#;

/// What must never be seen.
const SECRET: &str = "AGE-SECRET-KEY-mine";

/// Files, the program, and archives encrypted to `age1mine`; the key is not here.
fn encrypted() -> Sandbox {
    let sandbox = with_files();
    sandbox.fake("age", AGE);
    configure(&sandbox, "encrypt_to = \"age1mine\"\n");
    sandbox
}

/// Sets the keys of `[backup]` beyond those of [`with_files`].
fn configure(sandbox: &Sandbox, more: &str) {
    let config = sandbox.read("ops.toml");
    let (plain, _) = config.split_once("# more\n").unwrap_or((&config, ""));
    sandbox.write("ops.toml", format!("{plain}# more\n{more}"));
}

/// Brings the key of [`encrypted`].
fn with_key(sandbox: &Sandbox) {
    fs::write(sandbox.outside("keys").join("mine"), SECRET).unwrap();
    let path = sandbox.outside("keys").join("mine");
    configure(sandbox, &format!("encrypt_to = \"age1mine\"\nidentity = \"{}\"\n", path.display()));
}

/// Runs a program at a time, and makes sure that the key is not seen.
#[track_caller]
fn at(code: i32, sandbox: &Sandbox, now: &str, program: &str, args: &[&str]) -> Said {
    let said = said(sandbox.program(program).args(args).env("OPS_NOW", now).output().unwrap());
    assert_eq!(said.code, code, "{args:?}\n--- stdout\n{}\n--- stderr\n{}", said.stdout, said.stderr);
    let log = fs::read_to_string(sandbox.path("logs/backup.log")).unwrap_or_default();
    let seen = format!("{}{}{log}", said.stdout, said.stderr);
    assert!(!seen.contains(SECRET), "the key was shown: {seen}");
    said
}

const NOW: &str = "2026-11-20T09:30:01Z";
const NAME: &str = "20261120_093001.tar.gz.age";

#[track_caller]
fn now(code: i32, sandbox: &Sandbox, program: &str, args: &[&str]) -> Said {
    at(code, sandbox, NOW, program, args)
}

/// Everything in the backup folder but `latest`.
fn shelf(sandbox: &Sandbox) -> Vec<String> {
    let Ok(entries) = fs::read_dir(sandbox.path("backups")) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "latest");
    names.sort();
    names
}

fn archive(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("backups").join(NAME)
}

#[test]
fn an_archive_is_encrypted_has_a_note_without_names_and_nothing_plain_is_left() {
    let sandbox = encrypted();
    let made = now(0, &sandbox, "backup", &[]);
    assert!(made.stdout.contains("verified, encrypted to 1 recipient, in"), "{}", made.stdout);
    let note = format!("{NAME}.json");
    assert_eq!(shelf(&sandbox), [NAME.to_owned(), note.clone()]);
    for name in [NAME, &note] {
        let mode = fs::metadata(sandbox.path("backups").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let text = sandbox.read(&format!("backups/{note}"));
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&read["agent"], &read["sequence"], &read["files"]), (&"quiet".into(), &1.into(), &4.into()));
    assert_eq!(read["bytes"], fs::metadata(archive(&sandbox)).unwrap().len());
    assert!(!text.contains("journal") && !text.contains("memory") && !text.contains("settings"), "{text}");
    assert_eq!(fs::read_link(sandbox.path("backups/latest")).unwrap().to_str(), Some(NAME));

    let list = sandbox.json(0, "backup", &["list"]);
    let first = &list["archives"][0];
    assert_eq!(
        (&first["encrypted"], &first["verified"], &first["ours"], &first["files"]),
        (&true.into(), &true.into(), &true.into(), &4.into())
    );
    let said = now(0, &sandbox, "backup", &["list"]);
    assert!(said.stdout.contains("encrypted"), "{}", said.stdout);
    assert!(sandbox.json(0, "ops", &["dashboard", "json"])["backups"]["newest"]["verified"] == true);
}

#[test]
fn without_the_key_it_is_verified_by_its_hash_with_it_it_is_opened() {
    let sandbox = encrypted();
    now(0, &sandbox, "backup", &[]);
    let closed = now(0, &sandbox, "backup", &["verify"]);
    assert!(closed.stdout.contains("it was not opened"), "{}", closed.stdout);
    assert_eq!(sandbox.json(0, "backup", &["verify"])["opened"], false);
    for args in [&["latest", "--yes"][..], &["--list"], &["--drill"], &["20261120_093001", "--to", "x"]] {
        let refused = now(3, &sandbox, "restore", args);
        assert!(refused.stderr.contains("no identity is set"), "{}", refused.stderr);
    }
    with_key(&sandbox);
    let whole = now(0, &sandbox, "backup", &["verify"]);
    assert!(whole.stdout.contains("is whole: 4 files, 1 database"), "{}", whole.stdout);
    assert_eq!(sandbox.json(0, "backup", &["verify", "20261120_093001"])["opened"], true);

    let before = tree(&sandbox.path("memory/notes"));
    fs::write(sandbox.path("memory/notes/today.md"), "changed").unwrap();
    now(0, &sandbox, "restore", &["--yes"]);
    assert_eq!(tree(&sandbox.path("memory/notes")), before);
    now(0, &sandbox, "restore", &["--drill"]);
    assert!(now(0, &sandbox, "restore", &["--list"]).stdout.contains("memory/agent.db"));
    now(0, &sandbox, "backup", &["pin", "latest"]);
    assert!(sandbox.json(0, "backup", &["list"])["archives"][0]["drilled"].is_string());
    let plain = shelf(&sandbox).into_iter().filter(|name| !name.starts_with(NAME)).count();
    assert_eq!(plain, 0);
    let staging = fs::read_dir(sandbox.path(".ops/staging")).map_or(0, Iterator::count);
    assert_eq!(staging, 0, "nothing decrypted is left");
}

#[test]
fn what_was_made_is_opened_again_where_the_key_is() {
    let sandbox = encrypted();
    with_key(&sandbox);
    sandbox.write("memory/large", (0..300_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    assert!(now(0, &sandbox, "backup", &[]).stdout.contains("and opened again"));
    // Of the one before, what did not change is taken.
    let second = sandbox.json(0, "backup", &[]);
    assert!(second["reused"].as_u64().unwrap() > 0, "{second}");
    assert_eq!(second["encrypted"]["opened"], true);
    // A key that opens none of it: the archive is made all the same, and it is said.
    fs::write(sandbox.outside("keys").join("mine"), "AGE-SECRET-KEY-other").unwrap();
    let said = at(1, &sandbox, "2026-11-20T10:00:00Z", "backup", &[]);
    assert!(said.stderr.contains("does not open what encrypt_to encrypts"), "{}", said.stderr);
    assert!(!said.stderr.contains("KEY-other"), "{}", said.stderr);
    assert_eq!(shelf(&sandbox).len(), 6);
}

#[test]
fn what_is_missing_is_said_before_anything_is_made() {
    let sandbox = encrypted();
    for (more, said) in [
        ("encrypt_to = \"age1mine\"\nage_program = \"/nowhere/age\"\n", "there is no program /nowhere/age"),
        ("encrypt_to = \"age1bad\"\n", "malformed recipient"),
        ("encrypt_to = \"file:no-such-list\"\n", "no-such-list"),
    ] {
        configure(&sandbox, more);
        let refused = now(3, &sandbox, "backup", &[]);
        assert!(refused.stderr.contains(said) && refused.stderr.contains("hint: "), "{}", refused.stderr);
        assert_eq!(shelf(&sandbox), Vec::<String>::new());
    }
    configure(&sandbox, "encrypt_to = [\"age1mine\", \"file:recipients\"]\n");
    sandbox.write("recipients", "age1yours\n");
    let made = now(0, &sandbox, "backup", &[]);
    assert!(made.stdout.contains("2 recipients"), "{}", made.stdout);
    configure(&sandbox, "identity = \"key\"\nage_program = \"/nowhere/age\"\n");
    sandbox.write("key", "AGE-SECRET-KEY-yours");
    assert!(now(3, &sandbox, "restore", &["--yes"]).stderr.contains("there is no program"));
    configure(&sandbox, "identity = \"key\"\n");
    now(0, &sandbox, "restore", &["--drill"]);
    configure(&sandbox, "identity = \"no-key\"\n");
    assert!(now(3, &sandbox, "restore", &["--yes"]).stderr.contains("cannot read the identity"));
    // A program that says it is done and is not.
    sandbox.fake("age", "cat > /dev/null; echo age-encryption.org/v1; echo '--- x'");
    configure(&sandbox, "encrypt_to = \"age1mine\"\n");
    let refused = at(2, &sandbox, "2026-11-20T10:00:00Z", "backup", &[]);
    assert!(refused.stderr.contains("its length is not that of its content"), "{}", refused.stderr);
    assert_eq!(shelf(&sandbox).len(), 2);
}

#[test]
fn another_key_damage_and_a_wrong_note_are_told_apart_and_nothing_changes() {
    let sandbox = encrypted();
    with_key(&sandbox);
    now(0, &sandbox, "backup", &[]);
    let whole = fs::read(archive(&sandbox)).unwrap();
    let note = sandbox.path(&format!("backups/{NAME}.json"));
    let note_text = fs::read_to_string(&note).unwrap();
    let home = tree(&sandbox.path("memory"));
    let refused = |code: i32, why: &str| {
        for (program, args) in [
            ("restore", &[NAME, "--yes"][..]),
            ("restore", &[NAME, "--to", "elsewhere"]),
            ("backup", &["verify", NAME]),
        ] {
            let said = now(code, &sandbox, program, args);
            assert!(said.stderr.contains(why), "{why}: {}", said.stderr);
        }
        assert_eq!(tree(&sandbox.path("memory")), home);
    };
    fs::write(sandbox.outside("keys").join("mine"), "AGE-SECRET-KEY-other").unwrap();
    for args in [&[NAME, "--yes"][..], &[NAME, "--to", "elsewhere"], &[NAME, "--drill"]] {
        let said = now(3, &sandbox, "restore", args);
        assert!(said.stderr.contains("cannot be opened with the identity"), "{}", said.stderr);
    }
    // Its hash can be told without any key.
    let said = now(1, &sandbox, "backup", &["verify", NAME]);
    assert!(said.stderr.contains("cannot be opened with the identity"), "{}", said.stderr);
    assert!(said.stdout.contains("it was not opened"), "{}", said.stdout);
    with_key(&sandbox);
    for at in [10, whole.len() / 2, whole.len() - 40] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(archive(&sandbox), damaged).unwrap();
        // Where it does not even look encrypted, it is not read as if it were plain.
        let said = now(2, &sandbox, "restore", &[NAME, "--yes"]);
        assert!(said.stderr.contains("is refused"), "{}", said.stderr);
        assert_eq!(now(2, &sandbox, "backup", &["verify", NAME]).stdout, "");
        fs::write(archive(&sandbox), &whole).unwrap();
    }
    fs::write(archive(&sandbox), &whole[..whole.len() - 1]).unwrap();
    refused(2, "it has ");
    let list = sandbox.json(0, "backup", &["list"]);
    assert_eq!(list["archives"][0]["verified"], false);
    fs::write(archive(&sandbox), &whole).unwrap();
    fs::write(&note, note_text.replace("\"sequence\": 1", "\"sequence\": 7")).unwrap();
    refused(2, "the note beside it is of another archive");
    // With the key the note is not needed; without it nothing can be told.
    fs::remove_file(&note).unwrap();
    now(0, &sandbox, "backup", &["verify", NAME]);
    configure(&sandbox, "encrypt_to = \"age1mine\"\n");
    let said = now(3, &sandbox, "backup", &["verify", NAME]);
    assert!(said.stderr.contains("cannot be verified"), "{}", said.stderr);
    fs::write(&note, "not a note").unwrap();
    assert!(now(0, &sandbox, "backup", &["list"]).stdout.contains("is damaged"));
}

#[test]
fn notes_go_with_their_archives_and_without_one_nothing_is_pruned() {
    let sandbox = encrypted();
    configure(
        &sandbox,
        "encrypt_to = \"age1mine\"\nkeep = { all = \"2d\", weekly = \"2d\", monthly = \"2d\" }\n",
    );
    at(0, &sandbox, "2026-11-01T03:00:00Z", "backup", &[]);
    fs::remove_file(sandbox.path("backups/20261101_030000.tar.gz.age.json")).unwrap();
    for day in 2..=6 {
        at(0, &sandbox, &format!("2026-11-0{day}T03:00:00Z"), "backup", &[]);
    }
    assert_eq!(
        shelf(&sandbox),
        [
            "20261101_030000.tar.gz.age",
            "20261105_030000.tar.gz.age",
            "20261105_030000.tar.gz.age.json",
            "20261106_030000.tar.gz.age",
            "20261106_030000.tar.gz.age.json",
        ]
    );
    let said = at(0, &sandbox, "2026-11-06T03:00:00Z", "backup", &["list"]).stdout;
    assert!(said.contains("its note 20261101_030000.tar.gz.age.json cannot be read"), "{said}");
    // Encryption taken back: the order goes on.
    configure(&sandbox, "");
    at(0, &sandbox, "2026-11-07T03:00:00Z", "backup", &[]);
    let list = sandbox.json(0, "backup", &["list"]);
    assert_eq!(list["archives"][0]["name"], "20261107_030000.tar.gz");
    let sequences: Vec<_> =
        list["archives"].as_array().unwrap().iter().map(|one| one["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences[..3], [7, 6, 5]);
    // An archive removed by hand leaves a note, which the next backup sweeps.
    fs::remove_file(sandbox.path("backups/20261105_030000.tar.gz.age")).unwrap();
    let foreign = sandbox.read("backups/20261106_030000.tar.gz.age.json").replace("quiet", "other");
    sandbox.write("backups/20200101_000000.tar.gz.age.json", foreign);
    at(0, &sandbox, "2026-11-08T03:00:00Z", "backup", &[]);
    assert!(!sandbox.path("backups/20261105_030000.tar.gz.age.json").exists());
    assert!(sandbox.path("backups/20200101_000000.tar.gz.age.json").exists());
}

#[test]
fn cut_short_at_any_step_of_it_the_next_run_is_whole_and_nothing_plain_is_left() {
    for step in ["encrypt", "encrypted", "reopened", "noted", "published", "latest", "journaled"] {
        for variable in ["OPS_ABORT_AT", "OPS_FAIL_AT"] {
            let sandbox = encrypted();
            with_key(&sandbox);
            at(0, &sandbox, "2026-11-19T03:00:00Z", "backup", &[]);
            let cut = sandbox.program("backup").env("OPS_NOW", NOW).env(variable, step).output().unwrap();
            assert_ne!(cut.status.code(), Some(0), "{step}");
            let newest = sandbox.path("backups/latest");
            assert!(fs::canonicalize(&newest).is_ok(), "{step}");
            now(0, &sandbox, "backup", &["verify"]);
            at(0, &sandbox, "2026-11-20T10:00:00Z", "backup", &[]);
            let names = shelf(&sandbox);
            assert!(names.iter().all(|name| name.contains(".tar.gz.age")), "{step}: {names:?}");
            assert_eq!(names.len() % 2, 0, "{step}: {names:?}");
            for name in names.iter().filter(|name| name.ends_with(".age")) {
                now(0, &sandbox, "backup", &["verify", name]);
            }
        }
    }
    // The note goes last.
    let sandbox = encrypted();
    let rule = "encrypt_to = \"age1mine\"\nkeep = { all = \"1h\", weekly = \"1h\", monthly = \"1h\" }\n";
    configure(&sandbox, rule);
    at(0, &sandbox, "2026-11-19T03:00:00Z", "backup", &[]);
    let cut = sandbox.program("backup").env("OPS_NOW", NOW).env("OPS_ABORT_AT", "note").output().unwrap();
    assert_eq!(cut.status.code(), None, "{cut:?}");
    assert_eq!(shelf(&sandbox).len(), 3);
    now(0, &sandbox, "backup", &[]);
    assert!(!sandbox.path("backups/20261119_030000.tar.gz.age.json").exists());
}

#[test]
fn a_copy_in_the_bucket_is_encrypted_and_comes_back_with_its_note() {
    let storage = Storage::start();
    let sandbox = encrypted();
    let bucket = format!(
        "[backup.s3]\nendpoint = \"{}\"\nbucket = \"b\"\naccess_key = \"{KEY}\"\nsecret_key = \"s3cr3t\"\n",
        storage.endpoint
    );
    configure(&sandbox, &format!("encrypt_to = \"age1mine\"\n{bucket}"));
    now(0, &sandbox, "backup", &[]);
    let content = fs::read(archive(&sandbox)).unwrap();
    assert_eq!(storage.store().objects.keys().collect::<Vec<_>>(), [&format!("quiet/{NAME}")]);
    assert!(storage.store().objects[&format!("quiet/{NAME}")].content == content);

    let other = Sandbox::new();
    other.fake("age", AGE);
    let start = sandbox.read("ops.toml").split("# more\n").next().unwrap().to_owned();
    other.write("ops.toml", &start);
    configure(&other, &bucket);
    crate::remote::share_key(&sandbox, &other);
    storage.mend();
    let refused = now(3, &other, "restore", &["remote:latest", "--yes"]);
    assert!(refused.stderr.contains("no identity is set"), "{}", refused.stderr);
    assert!(!storage.mend().contains(&"get"), "nothing was fetched in vain");
    fs::write(other.outside("keys").join("mine"), SECRET).unwrap();
    let key = other.outside("keys").join("mine");
    configure(&other, &format!("identity = \"{}\"\n{bucket}", key.display()));
    now(0, &other, "restore", &["remote:latest", "--yes"]);
    assert_eq!(tree(&other.path("memory/notes")), tree(&sandbox.path("memory/notes")));
    assert_eq!(shelf(&other), [NAME.to_owned(), format!("{NAME}.json")]);
    let note = format!("backups/{NAME}.json");
    assert_eq!(sandbox.read(&note), other.read(&note));
    // One that was lost here comes back from there.
    fs::remove_file(other.path(&note)).unwrap();
    now(0, &other, "restore", &["remote:latest", "--drill"]);
    assert_eq!(sandbox.read(&note), other.read(&note));
    // A copy that lost its note there is none that could be restored or pruned by the rule.
    let mut store = storage.store();
    store.objects.get_mut(&format!("quiet/{NAME}")).unwrap().headers.remove("x-amz-meta-note");
    drop(store);
    now(3, &other, "restore", &["remote:20261120_093001", "--yes"]);
}

#[test]
fn what_was_made_plain_does_not_leave_the_host_once_archives_are_encrypted() {
    let storage = Storage::start();
    let sandbox = encrypted();
    configure(&sandbox, "");
    at(0, &sandbox, "2026-11-19T03:00:00Z", "backup", &[]);
    let bucket = format!(
        "[backup.s3]\nendpoint = \"{}\"\nbucket = \"b\"\naccess_key = \"{KEY}\"\nsecret_key = \"s3cr3t\"\n",
        storage.endpoint
    );
    configure(&sandbox, &format!("encrypt_to = \"age1mine\"\n{bucket}"));
    now(0, &sandbox, "backup", &[]);
    now(0, &sandbox, "backup", &["copy"]);
    assert_eq!(storage.store().objects.keys().collect::<Vec<_>>(), [&format!("quiet/{NAME}")]);
    assert_eq!(sandbox.json(0, "backup", &["list"])["archives"][1]["copied"], false);
}
