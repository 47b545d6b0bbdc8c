//! Macha: no pid file, no lock, no status file; a line in its log for each look is all there is. After a
//! failed cycle it sleeps, and a signal waits for that. Intervals of 30 s and 60 s are 0.1 s and 2 s here.

use crate::{append, misbehaves, on_term, option, pause, set};
use chrono::Utc;

pub fn orchestrator(args: &[&str]) -> i32 {
    assert_eq!(option(args, "--mode"), Some("continuous"));
    assert!(crate::variable("PYTHONPATH").is_some(), "it would not find its modules");
    let stop = on_term();
    let say =
        |message: &str| append("./orchestrator.log", &format!("[{}] {message}", Utc::now().to_rfc3339()));
    say("Starting continuous mode");
    while !set(&stop) {
        if misbehaves("hang") {
            pause(50);
            continue;
        }
        if misbehaves("errors") {
            say("ERROR in orchestration cycle: Could not connect to a Chroma server");
            append("./orchestrator.log", "Traceback (most recent call last):\n  File \"orchestrator.py\"");
            // Not looked up from.
            pause(2000);
            continue;
        }
        say("No triggers detected");
        let stats =
            r#"{"reviews_performed":2,"escalations_to_meta":0,"actions_proposed":0,"actions_executed":2}"#;
        let state = format!(r#"{{"stats":{stats},"last_save":"{}"}}"#, Utc::now().to_rfc3339());
        std::fs::write("review_model_state.json", state).unwrap();
        pause(100);
    }
    say("Received signal 15, stopping");
    0
}
