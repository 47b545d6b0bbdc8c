//! `for = "3 of 5"`: how often a check must have been bad before that counts.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// So many bad looks among so many runs, this one included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streak {
    /// The bad ones that it takes.
    pub bad: u32,
    /// Among how many.
    pub of: u32,
}

/// More runs than this are not looked back: a day of them.
const MOST: u32 = 288;

impl Default for Streak {
    fn default() -> Streak {
        Streak { bad: 1, of: 1 }
    }
}

impl Streak {
    /// Reads `3 of 5`, or `3`, which is `3 of 3`.
    pub fn parse(text: &str) -> Result<Streak, String> {
        let number = |text: &str| text.trim().parse::<u32>().ok();
        let (bad, of) = text.split_once("of").unwrap_or((text, text));
        match number(bad).zip(number(of)) {
            Some((bad, of)) if 1 <= bad && bad <= of && of <= MOST => Ok(Streak { bad, of }),
            _ => Err(format!("'{text}' is no number of runs; write it like \"3 of 5\" (at most {MOST})")),
        }
    }
}

impl<'de> Deserialize<'de> for Streak {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Streak, D::Error> {
        Streak::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Serialize for Streak {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} of {}", self.bad, self.of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_three_of_five() {
        for (text, bad, of) in [("3 of 5", 3, 5), ("2", 2, 2), (" 1of1 ", 1, 1)] {
            assert_eq!(Streak::parse(text), Ok(Streak { bad, of }), "{text}");
        }
        for wrong in ["", "0 of 3", "4 of 3", "3 in 5", "-1", "1 of 300", "of"] {
            assert!(Streak::parse(wrong).is_err(), "{wrong}");
        }
    }
}
