//! What a manifest says of the members of its archive, in their order.

use super::manifest::{Item, Manifest, damaged_member, member};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The members that are still to come. They are looked for where they should be, which costs nothing; only
/// of an archive in another order is a table made.
pub(super) struct Expected<'a> {
    manifest: &'a Manifest,
    folder: PathBuf,
    /// How many of the files, raw copies of damaged databases, and dumps came.
    next: [usize; 3],
    /// What is left, once something came out of order: by name, its item and its number.
    rest: Option<HashMap<PathBuf, (&'a Item, usize)>>,
    /// Whether something is named twice in that.
    twice: bool,
}

impl<'a> Expected<'a> {
    pub(super) fn new(manifest: &'a Manifest) -> Expected<'a> {
        let folder = PathBuf::from(&manifest.folder);
        Expected { manifest, folder, next: [0; 3], rest: None, twice: false }
    }

    /// The item of a member, and its number among all. None: there is no such item, or it came before.
    pub(super) fn take(&mut self, name: &Path) -> Option<(&'a Item, usize)> {
        if self.rest.is_none() {
            for which in 0..3 {
                let at = self.next[which];
                if let Some((member, item)) = self.get(which, at)
                    && member == name
                {
                    self.next[which] += 1;
                    return Some((item, self.number(which, at)));
                }
            }
        }
        self.rest().remove(name)
    }

    fn get(&self, which: usize, at: usize) -> Option<(PathBuf, &'a Item)> {
        let manifest = self.manifest;
        let (name, item) = match which {
            0 => manifest.files.get(at).map(|item| (member(&item.path.0), item)),
            1 => manifest.damaged.get(at).map(|item| (damaged_member(&item.path.0), item)),
            _ => manifest.dumps.get(at).map(|dump| (dump.member(), &dump.file)),
        }?;
        Some((self.folder.join(name), item))
    }

    fn number(&self, which: usize, at: usize) -> usize {
        [0, self.manifest.files.len(), self.manifest.files.len() + self.manifest.damaged.len()][which] + at
    }

    fn rest(&mut self) -> &mut HashMap<PathBuf, (&'a Item, usize)> {
        let rest = self.rest.take().unwrap_or_else(|| {
            let (mut rest, mut twice) = (HashMap::new(), false);
            for which in 0..3 {
                let left = (self.next[which]..).map_while(|at| Some((self.get(which, at)?, at)));
                for ((name, item), at) in left {
                    twice |= rest.insert(name, (item, self.number(which, at))).is_some();
                }
            }
            self.twice = twice;
            rest
        });
        self.rest.insert(rest)
    }

    /// The names of those that did not come, in order. None: the manifest names something twice. What came
    /// already cannot come again, so that it is missing the second time.
    pub(super) fn missing(mut self) -> Option<Vec<PathBuf>> {
        let mut missing: Vec<_> = self.rest().drain().map(|(name, _)| name).collect();
        missing.sort();
        (!self.twice).then_some(missing)
    }
}
