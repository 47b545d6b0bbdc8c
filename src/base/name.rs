//! Paths in JSON documents.

use super::text::hex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// A path in a JSON document: text where it is UTF-8, else `{"hex": "…"}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub PathBuf);

#[derive(Serialize, Deserialize)]
struct Hex {
    hex: String,
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => Hex { hex: hex(self.0.as_os_str().as_bytes()) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_any(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> de::Visitor<'de> for NameVisitor {
    type Value = Name;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a path, or its bytes in hexadecimal")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Name, E> {
        Ok(Name(PathBuf::from(text)))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Name, A::Error> {
        let Hex { hex } = Hex::deserialize(de::value::MapAccessDeserializer::new(map))?;
        let pairs = hex.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            (pair.len() == 2).then(|| u8::from_str_radix(pair, 16).ok())?
        });
        let bytes: Option<Vec<u8>> = pairs.collect();
        let bytes = bytes.ok_or_else(|| de::Error::custom("a name is not hexadecimal"))?;
        Ok(Name(PathBuf::from(OsString::from_vec(bytes))))
    }
}

/// A path as a [`Name`]: `#[serde(with = "…")]`. What serde does with paths by itself fails where one is not UTF-8.
pub mod path {
    use super::Name;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::path::{Path, PathBuf};

    /// As text, or as bytes in hexadecimal.
    pub fn serialize<S: Serializer>(path: &impl AsRef<Path>, serializer: S) -> Result<S::Ok, S::Error> {
        Name(path.as_ref().to_owned()).serialize(serializer)
    }

    /// From either.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(Name::deserialize(deserializer)?.0)
    }
}

/// A path that there may not be, likewise.
pub mod maybe_path {
    use super::Name;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::path::PathBuf;

    /// As text, or as bytes in hexadecimal, or as nothing.
    pub fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        path.clone().map(Name).serialize(serializer)
    }

    /// From any of them.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<Name>::deserialize(deserializer)?.map(|name| name.0))
    }
}

/// What is kept for each of some paths, as a list: a path may be no text, as the names of an object are.
pub mod by_path {
    use super::Name;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    /// As a list of pairs.
    pub fn serialize<S: Serializer, T: Serialize>(
        map: &BTreeMap<PathBuf, T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter().map(|(path, value)| (Name(path.clone()), value)))
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<T> {
        List(Vec<(Name, T)>),
        /// As earlier versions wrote it.
        Map(BTreeMap<PathBuf, T>),
    }

    /// From a list of pairs, or an object.
    pub fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<PathBuf, T>, D::Error> {
        Ok(match Either::deserialize(deserializer)? {
            Either::List(list) => list.into_iter().map(|(name, value)| (name.0, value)).collect(),
            Either::Map(map) => map,
        })
    }
}
