//! Copies in a bucket: never a success that the storage does not confirm, never a failure that
//! costs the archive here, never a key in what is said.

use crate::backup::{archives, rubbish, tree, with_files};
use crate::sandbox::{Said, Sandbox, said};
use crate::storage::{Endless, Fail, KEY, Object, Storage, Upload};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// What must never be seen.
const SECRET: &str = "s3cr3tSigningKey";

/// Adds the bucket to the config of a sandbox.
pub fn with_bucket(sandbox: Sandbox, storage: &Storage) -> Sandbox {
    let config = sandbox.read("ops.toml");
    let endpoint = &storage.endpoint;
    sandbox.write(
        "ops.toml",
        format!(
            "{config}[backup.s3]\nendpoint = \"{endpoint}\"\nbucket = \"b\"\ntimeout = \"9s\"\n\
             access_key = \"{KEY}\"\nsecret_key = \"{SECRET}\"\n"
        ),
    );
    sandbox
}

/// About 17 MB.
fn noise() -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut noise = Vec::new();
    for _ in 0..2_150_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise
}

/// Files of about 17 MB that do not get smaller: three parts.
pub fn with_large_files(storage: &Storage) -> Sandbox {
    let sandbox = with_bucket(with_files(), storage);
    sandbox.write("memory/noise", noise());
    sandbox
}

/// Runs `backup` with these words at a time, and makes sure that no key is seen anywhere.
#[track_caller]
pub fn at(code: i32, sandbox: &Sandbox, now: &str, args: &[&str]) -> Said {
    let said = said(sandbox.program("backup").args(args).env("OPS_NOW", now).output().unwrap());
    assert_eq!(said.code, code, "{args:?}\n--- stdout\n{}\n--- stderr\n{}", said.stdout, said.stderr);
    let mut seen = format!("{}{}", said.stdout, said.stderr);
    for file in ["logs/backup.log", ".ops/ops.db", ".ops/ops.db-wal"] {
        seen.push_str(&String::from_utf8_lossy(&fs::read(sandbox.path(file)).unwrap_or_default()));
    }
    assert!(!seen.contains(SECRET) && !seen.contains(KEY), "a key was shown: {seen}");
    assert!(!seen.contains("X-Amz-Signature"), "a signature was shown: {seen}");
    said
}

pub const NOW: &str = "2026-11-20T09:30:01Z";

#[track_caller]
pub fn backup(code: i32, sandbox: &Sandbox) -> Said {
    at(code, sandbox, NOW, &[])
}

/// The archives in the bucket, by name, with their content.
pub fn copies(storage: &Storage) -> BTreeMap<String, Vec<u8>> {
    let store = storage.store();
    let ours = |key: &String| key.strip_prefix("quiet/").map(str::to_owned);
    store.objects.iter().filter_map(|(key, object)| Some((ours(key)?, object.content.clone()))).collect()
}

/// Whether the bucket has exactly what the folder has.
#[track_caller]
pub fn all_there(sandbox: &Sandbox, storage: &Storage) {
    let here: BTreeMap<String, Vec<u8>> = archives(sandbox)
        .iter()
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
        .collect();
    let there = copies(storage);
    assert_eq!(here.keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>());
    assert!(here == there, "a copy differs");
}

/// Brings the signing key of one home to another.
pub fn share_key(from: &Sandbox, to: &Sandbox) {
    let file = from.outside("keys").join("signing.key");
    from.expect(0, "backup", &["key", "export", file.to_str().unwrap()]);
    to.expect(0, "backup", &["key", "import", file.to_str().unwrap()]);
}

#[test]
fn an_archive_goes_to_the_bucket_and_another_host_restores_from_there() {
    let storage = Storage::start();
    let sandbox = with_bucket(with_files(), &storage);
    let said = backup(0, &sandbox);
    assert!(said.stderr.contains("1 archive copied to s3://b/quiet/"), "{}", said.stderr);
    all_there(&sandbox, &storage);
    assert!(sandbox.read("logs/backup.log").contains("copied to s3://b/quiet/"));
    let list = sandbox.json(0, "backup", &["list", "--remote"]);
    assert_eq!(list["archives"][0]["name"], "20261120_093001.tar.gz");
    assert_eq!(
        (&list["archives"][0]["ours"], &list["archives"][0]["verified"]),
        (&true.into(), &true.into())
    );
    assert_eq!(list["verdicts"][0]["keep"], true);
    // Once is enough.
    storage.mend();
    at(0, &sandbox, NOW, &["copy"]);
    assert!(!storage.mend().contains(&"put"));

    let other = Sandbox::new();
    other.write("ops.toml", sandbox.read("ops.toml"));
    share_key(&sandbox, &other);
    let said = other.expect(0, "restore", &["remote:latest", "--yes"]);
    assert!(said.stderr.contains("backups/20261120_093001.tar.gz is here"), "{}", said.stderr);
    let (before, after) = (tree(&sandbox.path("memory/notes")), tree(&other.path("memory/notes")));
    assert_eq!(before, after);
    assert_eq!(fs::read_link(other.path("backups/latest")).unwrap().to_str(), Some("20261120_093001.tar.gz"));
    assert_eq!(other.json(0, "backup", &["list"])["archives"][0]["verified"], true);
    assert_eq!(rubbish(&other), Vec::<String>::new());
    // It is here now, so it is not fetched again.
    storage.mend();
    other.expect(0, "restore", &["remote:20261120_093001", "--drill"]);
    assert!(!storage.mend().contains(&"get"));
}

#[test]
fn a_large_archive_goes_in_parts_and_comes_back_in_pieces() {
    let storage = Storage::start();
    let sandbox = with_large_files(&storage);
    storage.fail("part", Fail::Cut, 1);
    backup(0, &sandbox);
    let asked = storage.mend();
    assert_eq!(asked.iter().filter(|operation| **operation == "part").count(), 4);
    all_there(&sandbox, &storage);
    let archive = archives(&sandbox).remove(0);
    let content = fs::read(&archive).unwrap();
    fs::remove_file(&archive).unwrap();
    storage.fail("get", Fail::Half, 2);
    sandbox.expect(0, "restore", &["remote:latest", "--drill"]);
    assert!(fs::read(&archive).unwrap() == content);
}

#[test]
fn an_upload_that_was_cut_short_goes_on_where_it_stopped() {
    let storage = Storage::start();
    let sandbox = with_large_files(&storage);
    let killed = sandbox.program("backup").env("OPS_NOW", NOW).env("OPS_ABORT_AT", "part").output().unwrap();
    assert_eq!(killed.status.code(), None, "{killed:?}");
    assert_eq!(storage.store().uploads.len(), 1);
    assert_eq!(storage.store().objects.len(), 0);
    sandbox.expect(0, "backup", &["verify"]);
    storage.mend();
    at(0, &sandbox, NOW, &["copy"]);
    let asked = storage.mend();
    assert_eq!(asked.iter().filter(|operation| **operation == "part").count(), 2);
    assert!(!asked.contains(&"begin") && storage.store().uploads.is_empty());
    all_there(&sandbox, &storage);
}

#[test]
fn killed_at_every_step_of_a_copy_nothing_is_lost_and_the_next_run_completes() {
    let storage = Storage::start();
    let sandbox = with_large_files(&storage);
    backup(0, &sandbox);
    for step in ["begun upload", "part", "sent"] {
        *storage.store() = crate::storage::Store::default();
        let mut copy = sandbox.program("backup");
        let killed = copy.arg("copy").env("OPS_NOW", NOW).env("OPS_ABORT_AT", step).output().unwrap();
        assert_eq!(killed.status.code(), None, "{step}: {killed:?}");
        at(0, &sandbox, NOW, &["copy"]);
        all_there(&sandbox, &storage);
        assert!(storage.store().uploads.is_empty(), "{step}");
    }
}

#[test]
fn what_passes_is_tried_again_and_costs_nothing() {
    let storage = Storage::start();
    let sandbox = with_bucket(with_files(), &storage);
    for (operation, fail, times) in [
        ("put", Fail::Status(500), 2),
        ("put", Fail::Status(503), 1),
        ("put", Fail::Cut, 2),
        ("put", Fail::Lost, 1),
        ("put", Fail::Slow(Duration::from_millis(100)), 1),
        ("head", Fail::Status(429), 2),
        ("list", Fail::Half, 2),
    ] {
        storage.fail(operation, fail, times);
        backup(0, &sandbox);
        storage.mend();
        all_there(&sandbox, &storage);
    }
}

#[test]
fn a_failed_copy_is_a_warning_and_the_next_run_makes_up_for_it() {
    let storage = Storage::start();
    let sandbox = with_bucket(with_files(), &storage);
    for (operation, fail) in [
        ("put", Fail::Status(500)),
        ("put", Fail::Cut),
        ("put", Fail::Lie),
        ("put", Fail::Status(403)),
        ("list", Fail::Status(503)),
        ("head", Fail::Status(500)),
    ] {
        let before = copies(&storage).len();
        storage.fail(operation, fail, 1000);
        let said = backup(1, &sandbox);
        assert!(said.stderr.contains("look at this: "), "{operation} {fail:?}: {}", said.stderr);
        assert!(!said.stderr.contains("archive copied"), "{operation} {fail:?}: {}", said.stderr);
        assert!(said.stdout.contains("verified, in"), "{}", said.stdout);
        assert_eq!(copies(&storage).len(), before, "{operation} {fail:?}");
        sandbox.expect(0, "backup", &["verify"]);
        storage.mend();
    }
    assert!(sandbox.read("logs/backup.log").contains("[WARNING] Backup made"));
    let said = backup(0, &sandbox);
    assert!(said.stderr.contains("7 archives copied"), "{}", said.stderr);
    all_there(&sandbox, &storage);
}

#[test]
fn silence_is_waited_for_as_long_as_the_config_says() {
    let storage = Storage::start();
    let sandbox = with_bucket(with_files(), &storage);
    let config = sandbox.read("ops.toml");
    sandbox.write("ops.toml", config.replace("timeout = \"9s\"", "timeout = \"200ms\""));
    storage.fail("list", Fail::Slow(Duration::from_secs(2)), 1000);
    let said = backup(1, &sandbox);
    assert!(said.stderr.contains("timeout") && said.stderr.contains("tried 4 times"), "{}", said.stderr);
    assert!(copies(&storage).is_empty());
    sandbox.write("ops.toml", config);
    storage.mend();
    at(0, &sandbox, NOW, &["copy"]);
    all_there(&sandbox, &storage);
}

#[test]
fn the_list_and_the_check_know_of_copies_without_the_network() {
    let storage = Storage::start();
    let sandbox = with_bucket(with_files(), &storage);
    let config = sandbox.read("ops.toml");
    sandbox.write("ops.toml", format!("{config}[check.copy]\nkind = \"copy_age\"\n"));
    let check = |code: i32, now: &str, says: &str| {
        let said = said(sandbox.program("health-check").env("OPS_NOW", now).output().unwrap());
        assert_eq!(said.code, code, "{said:?}");
        assert!(said.stdout.contains(says), "{}", said.stdout);
    };
    check(0, NOW, "no copy in the bucket yet, and no backup to copy");
    storage.fail("put", Fail::Status(403), 1000);
    backup(1, &sandbox);
    check(1, "2026-11-21T13:00:00Z", "no copy in the bucket yet, the first backup is 1d 3h old");
    assert_eq!(sandbox.json(0, "backup", &["list"])["archives"][0]["copied"], serde_json::Value::Null);
    storage.mend();
    at(0, &sandbox, NOW, &["copy"]);
    storage.fail("put", Fail::Status(403), 1000);
    at(1, &sandbox, "2026-11-20T10:00:00Z", &[]);
    storage.mend();
    let list = at(0, &sandbox, "2026-11-20T10:00:00Z", &["list"]).stdout;
    assert!(list.contains("  copy  kept because"), "{list}");
    for (line, copied) in [(1, "  no    the newest good one"), (2, "  yes   of the last 7d")] {
        assert!(list.lines().nth(line).unwrap().contains(copied), "{list}");
    }
    check(0, "2026-11-21T10:00:00Z", "the newest backup in the bucket is 1d old");
    check(1, "2026-11-21T12:00:00Z", "the newest backup in the bucket is 1d 2h old");
    check(2, "2026-11-24T12:00:00Z", "the newest backup in the bucket is 4d 2h old");
    assert!(storage.mend().is_empty(), "nobody asked the network");
}

#[test]
fn only_what_the_storage_confirms_counts() {
    let storage = Storage::start();
    let sandbox = with_large_files(&storage);
    // Done, but the answer is lost each time: the storage is asked, and it is there.
    storage.fail("complete", Fail::Lost, 4);
    let said = backup(0, &sandbox);
    assert!(said.stderr.contains("1 archive copied"), "{}", said.stderr);
    all_there(&sandbox, &storage);
    // Said to be done, and it is not.
    for fail in [Fail::ErrorInside, Fail::Lie] {
        storage.mend();
        storage.fail("complete", fail, 1000);
        at(1, &sandbox, "2026-11-20T10:00:00Z", &[]);
        storage.mend();
        assert_eq!(copies(&storage).len(), 1, "{fail:?}");
        at(0, &sandbox, "2026-11-20T10:00:00Z", &["copy"]);
        all_there(&sandbox, &storage);
        fs::remove_file(sandbox.path("backups/20261120_100000.tar.gz")).unwrap();
        storage.store().objects.remove("quiet/20261120_100000.tar.gz");
    }
}

#[test]
fn an_answer_that_is_cut_off_is_no_answer() {
    let storage = Storage::start();
    let sandbox = with_bucket(with_files(), &storage);
    backup(0, &sandbox);
    at(0, &sandbox, "2026-11-20T10:00:00Z", &[]);
    let before = copies(&storage);
    storage.fail("list", Fail::Truncated, 1000);
    let said = at(2, &sandbox, NOW, &["list", "--remote"]);
    assert!(said.stderr.contains("the storage answered with a list that cannot be read"), "{said:?}");
    sandbox.expect(2, "restore", &["remote:latest", "--drill"]);
    at(2, &sandbox, "2027-11-20T10:00:00Z", &["prune", "--remote", "--yes"]);
    storage.mend();
    storage.fail("list", Fail::Truncated, 1000);
    at(1, &sandbox, "2026-11-20T11:00:00Z", &[]);
    assert!(!storage.mend().iter().any(|asked| ["put", "delete"].contains(asked)));
    assert!(copies(&storage) == before);
    at(0, &sandbox, "2026-11-20T11:00:00Z", &["copy"]);
    all_there(&sandbox, &storage);
    // Nor is an upload begun by half of its id. That it is done tells the storage itself, not half a word of it.
    sandbox.write("memory/noise", noise());
    storage.fail("begin", Fail::Truncated, 1000);
    at(1, &sandbox, "2026-11-20T12:00:00Z", &[]);
    assert_eq!(copies(&storage).len(), 3);
    storage.mend();
    storage.fail("uploads", Fail::Truncated, 1000);
    storage.fail("parts", Fail::Truncated, 1000);
    storage.fail("complete", Fail::Truncated, 1);
    at(0, &sandbox, "2026-11-20T12:00:00Z", &["copy"]);
    all_there(&sandbox, &storage);
}

#[test]
fn answers_of_any_namespace_are_understood() {
    for namespace in ["http://doc.s3.amazonaws.com/2006-03-01", ""] {
        let storage = Storage::start();
        storage.store().namespace = Some(namespace);
        let sandbox = with_large_files(&storage);
        backup(0, &sandbox);
        all_there(&sandbox, &storage);
        assert_eq!(sandbox.json(0, "backup", &["list", "--remote"])["archives"][0]["ours"], true);
    }
}

#[test]
fn what_arrives_damaged_is_found_whatever_the_etag_says() {
    let storage = Storage::start();
    let sandbox = with_bucket(with_files(), &storage);
    storage.store().etag = Some(|number| format!("\"{number:032x}\""));
    storage.fail("put", Fail::Corrupt, 1);
    let said = backup(1, &sandbox);
    assert!(said.stderr.contains("not what was sent"), "{}", said.stderr);
    assert!(copies(&storage).is_empty());
    backup(0, &sandbox);
    all_there(&sandbox, &storage);
}

#[test]
fn etags_are_given_back_as_they_came() {
    let odd: [fn(u64) -> String; 4] = [
        |number| format!("\"ABC-{number:X}-xYz\""),
        |number| format!("W/\"{number:032x}\""),
        |number| format!("a<&'{number}>"),
        |number| format!("\"{number:032X}-3\""),
    ];
    let storage = Storage::start();
    let sandbox = with_large_files(&storage);
    backup(0, &sandbox);
    for etag in odd {
        storage.store().objects.clear();
        storage.store().etag = Some(etag);
        at(0, &sandbox, NOW, &["copy"]);
        all_there(&sandbox, &storage);
        assert!(storage.mend().contains(&"part"));
        at(0, &sandbox, NOW, &["copy"]);
        assert!(!storage.mend().contains(&"part"), "{}", etag(1));
    }
}

#[test]
fn a_signature_holds_for_minutes() {
    let storage = Storage::start();
    let sandbox = with_large_files(&storage);
    backup(0, &sandbox);
    sandbox.expect(0, "restore", &["remote:latest", "--drill"]);
    assert!(storage.store().longest <= 900, "{} seconds", storage.store().longest);
}

#[test]
fn a_list_without_end_is_given_up() {
    let storage = Storage::start();
    let sandbox = with_bucket(with_files(), &storage);
    for endless in [Endless::Other, Endless::Archives, Endless::Same] {
        storage.store().endless = Some(endless);
        let said = at(2, &sandbox, NOW, &["list", "--remote"]);
        assert!(said.stderr.contains("has no end"), "{endless:?}: {}", said.stderr);
        assert!(storage.mend().len() <= 1000, "{endless:?}");
    }
    let said = backup(1, &sandbox);
    assert!(said.stderr.contains("has no end"), "{}", said.stderr);
    sandbox.expect(2, "restore", &["remote:latest", "--yes"]);
}

#[test]
fn the_rule_holds_in_the_bucket_too_and_touches_nothing_of_others() {
    let storage = Storage::start();
    let sandbox = with_bucket(with_files(), &storage);
    let config = sandbox.read("ops.toml");
    sandbox
        .write("ops.toml", format!("{config}keep = {{ all = \"2d\", weekly = \"2d\", monthly = \"2d\" }}\n"));
    let foreign = Object { content: b"mine".to_vec(), headers: BTreeMap::new(), etag: "x".to_owned() };
    let mut other = foreign.clone();
    for (name, value) in [
        ("agent", "other"),
        ("bytes", "4"),
        ("etag", "x"),
        ("sequence", "1"),
        ("sha256", "x"),
        ("time", "2020-01-01T00:00:00Z"),
    ] {
        other.headers.insert(format!("x-amz-meta-{name}"), value.to_owned());
    }
    let keep = [
        ("quiet/20200101_000000.tar.gz", &foreign),
        ("quiet/20200101_000001.tar.gz", &other),
        ("quiet/readme.txt", &foreign),
        ("somebody/20200101_000000.tar.gz", &foreign),
    ];
    for (key, object) in keep {
        storage.store().objects.insert(key.to_owned(), object.clone());
    }
    // Lists come in pages.
    storage.store().page = 2;
    for day in 1..=6 {
        at(0, &sandbox, &format!("2026-11-0{day}T03:00:00Z"), &[]);
    }
    let store = storage.store();
    assert!(keep.iter().all(|(key, _)| store.objects.contains_key(*key)));
    let left: Vec<_> = store.objects.keys().filter(|key| key.contains("/2026")).cloned().collect();
    assert_eq!(left, ["quiet/20261105_030000.tar.gz", "quiet/20261106_030000.tar.gz"]);
    drop(store);
    assert_eq!(archives(&sandbox).len(), 6);
    // What the rule does not want there is not sent to be deleted again.
    storage.mend();
    at(0, &sandbox, "2026-11-06T03:00:00Z", &["copy"]);
    assert!(!storage.mend().contains(&"put"));
    // A plan that looks like a slip needs a yes.
    sandbox.write("ops.toml", &config);
    at(0, &sandbox, "2026-11-06T03:00:00Z", &["copy"]);
    sandbox
        .write("ops.toml", format!("{config}keep = {{ all = \"1s\", weekly = \"1s\", monthly = \"1s\" }}\n"));
    let said = at(1, &sandbox, "2026-11-06T03:00:00Z", &["copy"]);
    assert!(said.stderr.contains("looks like a slip"), "{}", said.stderr);
    at(3, &sandbox, "2026-11-06T03:00:00Z", &["prune", "--remote"]);
    at(0, &sandbox, "2026-11-06T03:00:00Z", &["prune", "--remote", "--dry-run"]);
    assert_eq!(copies(&storage).len(), 9);
    at(0, &sandbox, "2026-11-06T03:00:00Z", &["prune", "--remote", "--yes"]);
    assert_eq!(copies(&storage).len(), 4);
    assert_eq!(archives(&sandbox).len(), 6);
}

#[test]
fn only_abandoned_uploads_of_ours_are_given_up() {
    let storage = Storage::start();
    let sandbox = with_bucket(with_files(), &storage);
    let uploads = [
        ("old", "quiet/20261101_030000.tar.gz", "2026-11-18T00:00:00.000Z"),
        ("fresh", "quiet/20261120_030000.tar.gz", "2026-11-20T03:00:00.000Z"),
        ("theirs", "quiet/video.mp4", "2026-11-01T00:00:00.000Z"),
        ("elsewhere", "other/20261101_030000.tar.gz", "2026-11-01T00:00:00.000Z"),
    ];
    for (id, key, begun) in uploads {
        let upload = Upload { key: key.to_owned(), begun: begun.to_owned(), ..Upload::default() };
        storage.store().uploads.insert(id.to_owned(), upload);
    }
    let said = backup(0, &sandbox);
    assert!(said.stderr.contains("1 abandoned upload given up"), "{}", said.stderr);
    let left: Vec<_> = storage.store().uploads.keys().cloned().collect();
    assert_eq!(left, ["elsewhere", "fresh", "theirs"]);
    // A storage that cannot list them is no reason to fail.
    storage.fail("uploads", Fail::Status(400), 1000);
    backup(0, &sandbox);
    all_there(&sandbox, &storage);
}

#[test]
fn what_comes_back_is_checked_and_never_put_over_a_file_here() {
    let storage = Storage::start();
    let sandbox = with_bucket(with_files(), &storage);
    backup(0, &sandbox);
    let archive = archives(&sandbox).remove(0);
    let whole = fs::read(&archive).unwrap();
    // Damaged here: the one in the bucket comes beside it.
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&archive, &damaged).unwrap();
    assert_ne!(sandbox.run("restore", &["--drill"]).code, 0);
    sandbox.expect(0, "restore", &["remote:latest", "--drill"]);
    assert!(fs::read(&archive).unwrap() == damaged);
    assert!(fs::read(sandbox.path("backups/20261120_093001_1.tar.gz")).unwrap() == whole);
    // Damaged there: refused, and nothing is left of it.
    for path in archives(&sandbox) {
        fs::remove_file(path).unwrap();
    }
    storage.store().objects.get_mut("quiet/20261120_093001.tar.gz").unwrap().content = damaged;
    let said = sandbox.expect(2, "restore", &["remote:latest", "--yes"]);
    assert!(said.stderr.contains("is damaged"), "{}", said.stderr);
    assert!(archives(&sandbox).is_empty() && rubbish(&sandbox).is_empty());
    sandbox.expect(3, "restore", &["remote:20200101_000000", "--yes"]);
    sandbox.expect(3, "restore", &["remote:../ops.toml", "--yes"]);
    // No room for lies about the length either.
    storage.store().objects.get_mut("quiet/20261120_093001.tar.gz").unwrap().content = whole[..99].to_vec();
    sandbox.expect(3, "restore", &["remote:latest", "--yes"]);
    sandbox.expect(2, "restore", &["remote:20261120_093001", "--yes"]);
    assert!(archives(&sandbox).is_empty() && rubbish(&sandbox).is_empty());
}

#[test]
fn something_else_of_that_name_in_the_bucket_is_not_replaced() {
    let storage = Storage::start();
    let sandbox = with_bucket(with_files(), &storage);
    let theirs = Object { content: b"mine".to_vec(), headers: BTreeMap::new(), etag: "x".to_owned() };
    storage.store().objects.insert("quiet/20261120_093001.tar.gz".to_owned(), theirs);
    let said = backup(1, &sandbox);
    assert!(said.stderr.contains("is not replaced"), "{}", said.stderr);
    assert_eq!(copies(&storage)["20261120_093001.tar.gz"], b"mine");
    // It does not keep the others from going.
    at(1, &sandbox, "2026-11-20T10:00:00Z", &[]);
    assert_eq!(copies(&storage).len(), 2);
}

#[test]
fn keys_come_from_the_environment_or_its_file_and_wrong_ones_are_said_so() {
    let storage = Storage::start();
    let sandbox = with_files();
    let config = sandbox.read("ops.toml");
    let bucket =
        format!("[backup.s3]\nendpoint = \"{}\"\nbucket = \"b\"\ntimeout = \"1s\"\n", storage.endpoint);
    sandbox.write("ops.toml", format!("{config}{bucket}"));
    let said = backup(1, &sandbox);
    assert!(said.stderr.contains("there is no access_key"), "{}", said.stderr);
    let list = |key: &str| {
        let mut command = sandbox.program("backup");
        command.args(["list", "--remote"]).env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", SECRET);
        crate::sandbox::said(command.output().unwrap())
    };
    assert_eq!(list(KEY).code, 0);
    let refused = list("AKIAWRONG");
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("403 InvalidAccessKeyId")
            && refused.stderr.contains("hint: look at access_key")
    );
    assert!(!refused.stderr.contains("AKIAWRONG") && !refused.stderr.contains(SECRET));
    sandbox.write(".env", format!("AWS_ACCESS_KEY_ID={KEY}\nAWS_SECRET_ACCESS_KEY={SECRET}\n"));
    let with_file = config.replace("[agent]\n", "[agent]\nenv_file = \".env\"\n");
    sandbox.write("ops.toml", format!("{with_file}{bucket}"));
    backup(0, &sandbox);
    all_there(&sandbox, &storage);
    // No bucket of that name, and none at all.
    sandbox.write("ops.toml", format!("{with_file}{}", bucket.replace("\"b\"", "\"c\"")));
    assert!(at(1, &sandbox, NOW, &["copy"]).stderr.contains("NoSuchBucket"));
    sandbox.write("ops.toml", &config);
    for args in [&["list", "--remote"][..], &["copy"], &["prune", "--remote"]] {
        at(3, &sandbox, NOW, args);
    }
    sandbox.expect(3, "restore", &["remote:latest"]);
}
