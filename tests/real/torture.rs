//! A minute of writers at full speed, with backups or rotations back to back.

#[path = "../it/log_torture.rs"]
mod logs;
#[path = "../it/torture.rs"]
mod writers;

#[test]
fn a_minute_of_writers_at_full_speed() {
    writers::writers_at_full_speed(std::time::Duration::from_secs(60));
}

#[test]
fn a_minute_of_rotations_with_writers_at_full_speed() {
    logs::logs_at_full_speed(std::time::Duration::from_secs(60));
}
