//! The source tree as the rules see it: files with comments, texts and tests blanked out.
//!
//! No parser of Rust: a scanner that knows comments, literals and braces, which is all that the
//! rules need. Blanked characters become spaces, so that lines keep their numbers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold no source of the workspace; `.ci` has projects of its own, which check the broker
/// from outside.
const SKIPPED: [&str; 4] = [".git", ".ci", "target", "node_modules"];

/// One file of the workspace.
pub struct Source {
    /// From the root of the workspace, with `/`.
    pub path: String,
    pub text: String,
    /// For Rust: `text` without comments, literals and tests. Empty if the file is a test.
    pub code: String,
}

/// All text files of the workspace that rules are about.
pub struct Tree(pub Vec<Source>);

impl Tree {
    /// Reads the workspace that this test belongs to.
    pub fn of_workspace() -> Tree {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("broker/ has a parent");
        let mut paths = Vec::new();
        list(root, &mut paths);
        paths.sort();
        let read = |path: &PathBuf| {
            let name = path.strip_prefix(root).expect("listed below the root");
            let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            (name.display().to_string(), text)
        };
        Tree::of(paths.iter().map(read).collect())
    }

    /// A tree of the given paths and texts.
    pub fn of(files: Vec<(String, String)>) -> Tree {
        let stripped: Vec<String> = files.iter().map(|(_, text)| without_texts(text)).collect();
        let mut tests = BTreeSet::new();
        for ((path, _), code) in files.iter().zip(&stripped) {
            test_modules(path, code, &mut tests);
        }
        let source = |((path, text), code): ((String, String), String)| {
            let is_test = tests.iter().any(|test| is_below(&path, test));
            let in_tests = path
                .split('/')
                .any(|part| part == "tests" || part == "examples");
            let code = match is_test || in_tests || !path.ends_with(".rs") {
                true => String::new(),
                false => without_tests(&code),
            };
            Source { path, text, code }
        };
        Tree(files.into_iter().zip(stripped).map(source).collect())
    }

    /// Files whose name ends so.
    pub fn ending(&self, suffix: &'static str) -> impl Iterator<Item = &Source> {
        self.0
            .iter()
            .filter(move |source| source.path.ends_with(suffix))
    }

    /// Rust files below one of these places (files or folders), tests included.
    pub fn below(&self, places: &'static [&'static str]) -> impl Iterator<Item = &Source> {
        self.ending(".rs")
            .filter(move |source| source.is_below(places))
    }
}

impl Source {
    /// True if this is one of the places or lies below one.
    pub fn is_below(&self, places: &[&str]) -> bool {
        places.iter().any(|place| is_below(&self.path, place))
    }

    /// The lines of code that hold one of the words, as `path:line: word`.
    pub fn uses(&self, words: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for (number, line) in self.code.lines().enumerate() {
            for word in words.iter().filter(|word| has_word(line, word)) {
                found.push(format!("{}:{}: {word}", self.path, number + 1));
            }
        }
        found
    }

    /// The modules of the crate that this file's code names, by `crate::` or by as many `super::` as
    /// lead there.
    pub fn modules_named(&self) -> BTreeSet<String> {
        let mut prefixes = vec!["crate::".to_owned()];
        if let Some((_, inner)) = self.path.split_once("/src/") {
            let is_folder = inner.ends_with("/mod.rs") || !inner.contains('/');
            let depth = inner.matches('/').count() + usize::from(!is_folder);
            prefixes.extend((depth > 0).then(|| "super::".repeat(depth)));
        }
        let mut named = BTreeSet::new();
        for prefix in &prefixes {
            for (at, _) in self.code.match_indices(prefix.as_str()) {
                let before = &self.code[..at];
                // `super::super::x` holds `super::x`, and `a_crate::x` holds `crate::x`.
                let is_cut = before.ends_with("::") || before.ends_with(is_word);
                if !is_cut {
                    first_names(&self.code[at + prefix.len()..], &mut named);
                }
            }
        }
        named.remove("super");
        named
    }
}

/// Adds the name that a path begins with, or each of those in its braces.
fn first_names(path: &str, names: &mut BTreeSet<String>) {
    let Some(group) = path.strip_prefix('{') else {
        let name: String = path.chars().take_while(|c| is_word(*c)).collect();
        names.insert(name);
        return;
    };
    let mut depth = 0;
    let mut name = String::new();
    let mut is_first = true;
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.insert(std::mem::take(&mut name));
                is_first = true;
            }
            ':' if depth == 0 => is_first = false,
            c if is_word(c) && depth == 0 && is_first => name.push(c),
            _ => {}
        }
    }
    names.insert(name);
    names.remove("");
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether a line holds a word or path that is not part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let after = &line[at + word.len()..];
        let ends = !word.ends_with(is_word) || !after.starts_with(is_word);
        let begins = !word.starts_with(is_word) || !line[..at].ends_with(is_word);
        begins && ends
    })
}

fn is_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || place.ends_with('/'))
}

fn list(folder: &Path, paths: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    for entry in entries {
        let path = entry.expect("an entry of a folder").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        if path.is_dir() && !path.is_symlink() {
            if !SKIPPED.contains(&name) {
                list(&path, paths);
            }
        } else if [".rs", ".toml", ".md"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
        {
            paths.push(path);
        }
    }
}

/// Blanks comments, and what is in quotes.
pub fn without_texts(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => comment_end(&chars, at),
            '"' => quoted_end(&chars, at + 1, '"'),
            'r' if !code.ends_with(is_word) || ends_in_prefix(&code) => {
                raw_end(&chars, at).unwrap_or(at)
            }
            '\'' => char_end(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(
                chars[at..end]
                    .iter()
                    .map(|c| if *c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    code
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..]
        .iter()
        .position(|c| *c == '\n')
        .map_or(chars.len(), |length| at + length)
}

/// Block comments nest.
fn comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

/// Behind the quote that ends a text, heeding escapes.
fn quoted_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `b` or `c` of `br"..."` and `cr"..."`, and not the end of some name.
fn ends_in_prefix(code: &str) -> bool {
    code.strip_suffix(['b', 'c'])
        .is_some_and(|before| !before.ends_with(is_word))
}

/// Behind a raw text that begins here with `r`; None if none does.
fn raw_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |end: &usize| {
        chars[*end] == '"'
            && chars.len() > end + hashes
            && chars[end + 1..=end + hashes].iter().all(|c| *c == '#')
    };
    let end = (open + 1..chars.len()).find(closes)?;
    Some(end + 1 + hashes)
}

/// Behind a character literal; None for a lifetime.
fn char_end(chars: &[char], at: usize) -> Option<usize> {
    match chars.get(at + 1)? {
        '\\' => Some(quoted_end(chars, at + 1, '\'')),
        _ => (chars.get(at + 2) == Some(&'\'')).then_some(at + 3),
    }
}

const TEST_ITEM: &str = "#[cfg(test)]";

/// Blanks items that are only there for tests.
fn without_tests(code: &str) -> String {
    let mut rest = code;
    let mut kept = String::with_capacity(code.len());
    while let Some(at) = rest.find(TEST_ITEM) {
        let end = at + item_end(&rest[at..]);
        kept.push_str(&rest[..at]);
        kept.extend(rest[at..end].chars().filter(|c| *c == '\n'));
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}

/// Behind the item that begins here: its semicolon, or the brace that closes its body.
fn item_end(item: &str) -> usize {
    let mut depth = 0;
    for (at, c) in item.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' => depth -= 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

/// Adds the files and folders of modules that `path` declares for tests only.
fn test_modules(path: &str, code: &str, tests: &mut BTreeSet<String>) {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let folder = match file {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        _ => path.trim_end_matches(".rs").to_owned(),
    };
    for (at, _) in code.match_indices(TEST_ITEM) {
        let item = code[at + TEST_ITEM.len()..]
            .trim_start()
            .trim_start_matches("pub(crate) ");
        let name = item.strip_prefix("mod ").map(|rest| rest.trim_start());
        let name = name
            .and_then(|rest| rest.split_once(';'))
            .map(|(name, _)| name.trim());
        if let Some(name) = name.filter(|name| name.chars().all(is_word)) {
            tests.insert(format!("{folder}/{name}.rs"));
            tests.insert(format!("{folder}/{name}"));
        }
    }
}
