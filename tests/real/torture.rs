//! A minute of writers at full speed, with backups back to back.

#[path = "../it/torture.rs"]
mod writers;

#[test]
fn a_minute_of_writers_at_full_speed() {
    writers::writers_at_full_speed(std::time::Duration::from_secs(60));
}
