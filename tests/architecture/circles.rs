//! No file may use another that uses the first, directly or through others.
//!
//! A file uses another when a `use` line or a path in its code names an item that is defined there.
//! Where a `mod.rs` only passes the name on, the file that defines it counts, so that a table of
//! contents is part of no circle; an item that is defined in a `mod.rs` counts there. Tests inside
//! the files do not count.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;
use std::slice::from_ref;

use super::file::{File, parse};
use super::source::{source_folders, tokens};

/// A module of a crate, by its path: `[]` is the root.
type Module = Vec<String>;

/// The modules of one crate. A module that is written inside a file has that file's path.
#[derive(Default)]
pub(crate) struct Crate {
    modules: BTreeMap<Module, File>,
}

/// For each file the files that it uses, each with one name that it takes from there.
type Uses = BTreeMap<String, BTreeMap<String, String>>;

enum Found {
    Module(Module),
    Item(String),
}

/// The product's library and program, and those of each crate beside it.
pub(crate) fn crates() -> Vec<Crate> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let mut crates = Vec::new();
    for folder in source_folders() {
        for start in ["lib.rs", "main.rs"] {
            let path = folder.join(start);
            let path = path.strip_prefix(root).expect("below the root");
            let path = path.to_str().expect("a path");
            if read(path).is_some() {
                let mut of = Crate::default();
                of.add(Vec::new(), path, &read);
                crates.push(of);
            }
        }
    }
    crates
}

impl Crate {
    /// The files, without those of tests.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.modules.values().map(|it| it.path.as_str())
    }

    /// Reads the module and all that it declares, by `read`: a file's path to its text.
    fn add(&mut self, module: Module, path: &str, read: &dyn Fn(&str) -> Option<String>) {
        let text = read(path).unwrap_or_else(|| panic!("{path} cannot be read"));
        let (file, children) = parse(path, &tokens(&text));
        self.modules.insert(module.clone(), file);
        let name = Path::new(path).file_stem().and_then(|it| it.to_str());
        let folder = match name {
            Some("lib" | "main" | "mod") => Path::new(path).parent().expect("a folder").to_owned(),
            _ => Path::new(path).with_extension(""),
        };
        for child in children {
            let candidates = [format!("{child}.rs"), format!("{child}/mod.rs")];
            let found = candidates
                .iter()
                .map(|it| folder.join(it).to_str().expect("a path").to_owned())
                .find(|it| read(it).is_some());
            let path = found.unwrap_or_else(|| panic!("no file for `mod {child}` of {path}"));
            let module = [module.clone(), vec![child]].concat();
            self.add(module, &path, read);
        }
    }

    fn child(&self, module: &Module, name: &str) -> Option<Module> {
        let child = [module.clone(), vec![name.to_owned()]].concat();
        self.modules.contains_key(&child).then_some(child)
    }

    /// What a path means that is written in this module; `None` for other crates and for what the
    /// file has itself.
    fn find(&self, from: &Module, path: &[String], seen: &mut BTreeSet<String>) -> Option<Found> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.look(&Vec::new(), rest, seen),
            "self" => self.look(from, rest, seen),
            "super" => {
                let mut parent = from.clone();
                parent.pop()?;
                if rest.first().is_some_and(|next| next == "super") {
                    return self.find(&parent, rest, seen);
                }
                self.look(&parent, rest, seen)
            }
            _ => {
                // `use name::name` takes it from another crate.
                let imports = &self.modules[from].imports;
                let known = self.child(from, first).is_some()
                    || imports
                        .iter()
                        .any(|it| it.name == *first && it.path.first() != Some(first));
                known.then(|| self.look(from, path, seen)).flatten()
            }
        }
    }

    /// What the rest of a path means in this module.
    fn look(&self, module: &Module, rest: &[String], seen: &mut BTreeSet<String>) -> Option<Found> {
        let Some((name, rest)) = rest.split_first() else {
            return Some(Found::Module(module.clone()));
        };
        // A name that passes itself on by a circle of `use` lines.
        if !seen.insert(format!("{module:?} {name} {rest:?}")) {
            return None;
        }
        let file = &self.modules[module];
        let child = self.child(module, name);
        if let (Some(child), false) = (&child, rest.is_empty()) {
            return self.look(child, rest, seen);
        }
        if file.defined.contains(name) {
            return Some(Found::Item(file.path.clone()));
        }
        if let Some(import) = file.imports.iter().find(|it| it.name == *name) {
            let path = [import.path.as_slice(), rest].concat();
            return self.find(module, &path, seen);
        }
        if let Some(child) = child {
            return Some(Found::Module(child));
        }
        let mut globs = file.imports.iter().filter(|it| it.name == "*");
        globs.find_map(|glob| match self.find(module, &glob.path, seen)? {
            Found::Module(inner) => {
                let whole = [from_ref(name), rest].concat();
                let has = self.modules[&inner].defined.contains(name)
                    || self.modules[&inner]
                        .imports
                        .iter()
                        .any(|it| it.name == *name);
                has.then(|| self.look(&inner, &whole, seen)).flatten()
            }
            Found::Item(path) => Some(Found::Item(path)),
        })
    }

    fn uses(&self) -> Uses {
        let mut uses = Uses::new();
        for (module, file) in &self.modules {
            let of = uses.entry(file.path.clone()).or_default();
            let taken = file
                .imports
                .iter()
                .filter(|it| !it.passed_on || file.words.contains(&it.name))
                .map(|it| it.path.clone());
            // All that a module has: what of it the code names.
            let globs = file.imports.iter().filter(|it| it.name == "*");
            let of_globs = globs.flat_map(|it| {
                let words = file.words.iter();
                words.map(|word| [it.path.as_slice(), from_ref(word)].concat())
            });
            for path in taken.chain(of_globs).chain(file.named.iter().cloned()) {
                if let Some(Found::Item(used)) = self.find(module, &path, &mut BTreeSet::new())
                    && used != file.path
                {
                    of.entry(used).or_insert_with(|| path.join("::"));
                }
            }
        }
        uses
    }
}

/// The way from one file to another over the files that each uses; shortest first.
fn way<'a>(uses: &'a Uses, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut next = VecDeque::from([from]);
    while let Some(file) = next.pop_front() {
        for used in uses.get(file).into_iter().flat_map(BTreeMap::keys) {
            if used == to {
                let mut way = vec![file];
                while let Some(earlier) = before.get(way[0]) {
                    way.insert(0, earlier);
                }
                return Some(way);
            }
            if used != from && !before.contains_key(used.as_str()) {
                before.insert(used, file);
                next.push_back(used);
            }
        }
    }
    None
}

/// Groups of files that reach one another, and one circle of each, in words.
fn circles(uses: &Uses) -> Vec<(BTreeSet<&str>, String)> {
    let mut circles: Vec<(BTreeSet<&str>, String)> = Vec::new();
    for file in uses.keys() {
        if circles
            .iter()
            .any(|(group, _)| group.contains(file.as_str()))
        {
            continue;
        }
        let Some(circle) = way(uses, file, file) else {
            continue;
        };
        let both =
            |other: &&String| way(uses, file, other).is_some() && way(uses, other, file).is_some();
        let group = uses.keys().filter(both).map(String::as_str).collect();
        let mut told = String::new();
        for (at, from) in circle.iter().enumerate() {
            let to = circle[(at + 1) % circle.len()];
            told += &format!("\n    {from} uses {to} ({})", uses[*from][to]);
        }
        circles.push((group, told));
    }
    circles
}

#[test]
fn no_file_uses_one_that_uses_it() {
    let mut all = 0;
    let mut told = String::new();
    for of in crates() {
        let uses = of.uses();
        for (group, circle) in circles(&uses) {
            all += group.len();
            told += &format!("\n  {} files: {group:?}; for example{circle}", group.len());
        }
    }
    assert!(all == 0, "{all} files are in circles{told}");
}

/// The circles of a crate whose files are these.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let read = |path: &str| {
        let found = files.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| (*text).to_owned())
    };
    let mut of = Crate::default();
    of.add(Vec::new(), "src/lib.rs", &read);
    let uses = of.uses();
    circles(&uses).into_iter().map(|(_, told)| told).collect()
}

#[test]
fn a_name_that_another_crate_also_has_ends_the_search() {
    let lib = "use anyhow::anyhow; fn fails() -> anyhow::Error { anyhow!(\"no\") }";
    assert!(circles_of(&[("src/lib.rs", lib)]).is_empty());
}

#[test]
fn a_circle_is_found_through_a_table_of_contents_and_through_paths_in_the_code() {
    let lib = ("src/lib.rs", "mod a; mod b;");
    let contents = (
        "src/a/mod.rs",
        "mod one; mod two; pub(crate) use one::{One, first as begin};",
    );
    let one = (
        "src/a/one.rs",
        "pub(crate) struct One; pub(crate) fn first() { crate::b::last() }",
    );
    let two = (
        "src/a/two.rs",
        "use super::One; pub(crate) struct Two(One);",
    );
    let straight = (
        "src/b.rs",
        "// crate::a::begin\npub(crate) fn last() { \"crate::a::begin\"; }",
    );
    assert_eq!(
        circles_of(&[lib, contents, one, two, straight]),
        Vec::<String>::new()
    );
    for back in [
        "use crate::a::begin; pub(crate) fn last() { begin() }",
        "use crate::{a::{self}}; pub(crate) fn last() { a::begin() }",
        "pub(crate) fn last() { crate::a::begin() }",
        "use super::a::one::*; pub(crate) fn last() { first() }",
    ] {
        let found = circles_of(&[lib, contents, one, two, ("src/b.rs", back)]);
        assert_eq!(found.len(), 1, "{back}");
        assert!(found[0].contains("src/b.rs uses src/a/one.rs"), "{found:?}");
    }
    let tested = "pub(crate) fn last() {} #[cfg(test)] mod tests { use crate::a::begin; }";
    assert!(circles_of(&[lib, contents, one, two, ("src/b.rs", tested)]).is_empty());
}

#[test]
fn logic_in_a_table_of_contents_is_part_of_a_circle() {
    let lib = ("src/lib.rs", "mod a;");
    let contents = (
        "src/a/mod.rs",
        "mod one; pub(crate) use one::One; pub(crate) fn go() { One::new(); }",
    );
    let one = (
        "src/a/one.rs",
        "pub(crate) struct One; fn back() { super::go() }",
    );
    assert_eq!(circles_of(&[lib, contents, one]).len(), 1);
    let alone = (
        "src/a/mod.rs",
        "mod one; pub(crate) use one::One; pub(crate) fn go() {}",
    );
    assert!(circles_of(&[lib, alone, one]).is_empty());
}
