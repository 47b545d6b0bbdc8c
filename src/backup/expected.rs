//! What a manifest says of the members of its archive, in their order.

use super::manifest::{Item, Manifest, damaged_member, member};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A member, by its name, with its item and the item's number among all.
type Coming = (PathBuf, Item, usize);

/// The members that are still to come. They are looked for where they should be, which costs nothing; only
/// of an archive in another order is a table made.
pub(super) struct Expected<'a> {
    /// The files, raw copies of damaged databases, and dumps that are still to come: of each the first, and
    /// the others.
    lists: [(Option<Coming>, Box<dyn Iterator<Item = Coming> + 'a>); 3],
    /// What is left, once something came out of order.
    rest: Option<HashMap<PathBuf, (Item, usize)>>,
    /// Whether something is named twice in that.
    twice: bool,
}

impl<'a> Expected<'a> {
    pub(super) fn new(manifest: &'a Manifest) -> Expected<'a> {
        let folder = Path::new(&manifest.folder);
        let list = |begin: usize, items: Box<dyn Iterator<Item = (PathBuf, Item)> + 'a>| {
            let numbered = items.enumerate();
            let mut list =
                numbered.map(move |(number, (name, item))| (folder.join(name), item, begin + number));
            (list.next(), Box::new(list) as Box<dyn Iterator<Item = Coming> + 'a>)
        };
        let files = manifest.files.iter().map(|item| (member(&item.path.0), item));
        let damaged = manifest.damaged.iter().map(|item| (damaged_member(&item.path.0), item.clone()));
        let dumps = manifest.dumps.iter().map(|dump| (dump.member(), dump.file.clone()));
        let (files_end, damaged_end) = (manifest.files.len(), manifest.files.len() + manifest.damaged.len());
        let lists = [
            list(0, Box::new(files)),
            list(files_end, Box::new(damaged)),
            list(damaged_end, Box::new(dumps)),
        ];
        Expected { lists, rest: None, twice: false }
    }

    /// The item of a member, and its number among all. None: there is no such item, or it came before.
    pub(super) fn take(&mut self, name: &Path) -> Option<(Item, usize)> {
        if self.rest.is_none() {
            for (first, others) in &mut self.lists {
                if let Some((_, item, number)) = first.take_if(|(first, ..)| first == name) {
                    *first = others.next();
                    return Some((item, number));
                }
            }
        }
        self.rest().remove(name)
    }

    fn rest(&mut self) -> &mut HashMap<PathBuf, (Item, usize)> {
        let rest = self.rest.take().unwrap_or_else(|| {
            let mut rest = HashMap::new();
            for (first, others) in &mut self.lists {
                for (name, item, number) in first.take().into_iter().chain(others) {
                    self.twice |= rest.insert(name, (item, number)).is_some();
                }
            }
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
