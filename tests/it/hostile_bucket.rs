//! A storage that answers as it likes, from a seed: nothing is restored that is not what was signed, memory
//! and time are bounded, and there is no panic. `OPS_TEST_HOSTILE` takes more seeds.

use crate::backup::{archives, rubbish, with_files};
use crate::hostile::peak;
use crate::remote::{NOW, backup, with_bucket};
use crate::storage::{Fail, Storage};
use std::fs;

#[test]
fn a_storage_that_lies_harms_nothing() {
    let storage = Storage::start();
    let sandbox = with_bucket(with_files(), &storage);
    backup(0, &sandbox);
    // A body that never comes is not waited for any longer than that.
    sandbox.write("ops.toml", sandbox.read("ops.toml").replace("timeout = \"9s\"", "timeout = \"400ms\""));
    let archive = archives(&sandbox).remove(0);
    let whole = fs::read(&archive).unwrap();
    let objects = storage.store().objects.clone();
    let seeds: u64 = std::env::var("OPS_TEST_HOSTILE").map_or(24, |count| count.parse().unwrap());
    let mut restored = 0;
    for seed in 0..seeds {
        let _ = fs::remove_file(&archive);
        storage.store().objects.clone_from(&objects);
        for operation in ["list", "head", "get", "uploads"] {
            storage.fail(operation, Fail::Odd(seed * 1000), 1000);
        }
        let (said, memory) = peak(sandbox.program("restore").args(["remote:latest", "--drill"]));
        let shown = format!("seed {seed}: {} {memory} MiB\n{}", said.code, said.stderr);
        assert!([0, 2, 3].contains(&said.code) && !said.stderr.contains("panicked"), "{shown}");
        assert!(memory <= 64, "{shown}");
        for came in archives(&sandbox) {
            assert!(fs::read(&came).unwrap() == whole, "{shown}");
            restored += 1;
        }
        assert_eq!(rubbish(&sandbox), Vec::<String>::new(), "{shown}");
        fs::write(&archive, &whole).unwrap();
        for operation in ["put", "delete"] {
            storage.fail(operation, Fail::Odd(seed * 1000), 1000);
        }
        let (said, memory) = peak(sandbox.program("backup").arg("copy").env("OPS_NOW", NOW));
        let shown = format!("seed {seed}: {} {memory} MiB\n{}", said.code, said.stderr);
        assert!((0..=3).contains(&said.code) && !said.stderr.contains("panicked"), "{shown}");
        assert!(memory <= 64, "{shown}");
        assert!(fs::read(&archive).unwrap() == whole, "{shown}");
        storage.mend();
    }
    assert!(restored > 0 && restored < seeds, "{restored} of {seeds} came through");
}
