//! A thousand random homes, as root: owners and closed files too. `OPS_TEST_HOMES=10000` takes
//! more of them.

#[path = "../it/homes.rs"]
mod homes;

#[test]
fn many_random_homes_come_back_bit_for_bit() {
    homes::homes(std::env::var("OPS_TEST_HOMES").map_or(1_000, |count| count.parse().unwrap()));
}
