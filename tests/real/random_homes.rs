//! Ten thousand random homes, as root where CI is root: owners and closed files too.

#[path = "../it/homes.rs"]
mod homes;

#[test]
fn ten_thousand_random_homes_come_back_bit_for_bit() {
    homes::homes(10_000);
}
