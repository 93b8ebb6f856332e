//! Manifests: which crate names which, and why.

use super::source::Tree;

/// One line of a dependency section.
pub struct Dependency {
    /// The folder of the crate.
    pub of: String,
    pub name: String,
    /// Only for tests, examples and benches.
    pub is_for_tests: bool,
    /// What stands behind `#`, or in a comment on the line above.
    pub reason: String,
    /// The whole line.
    pub line: String,
    pub place: String,
}

/// The dependencies of all member crates, line by line.
pub fn dependencies(tree: &Tree) -> Vec<Dependency> {
    let mut found = Vec::new();
    for manifest in tree.ending("/Cargo.toml") {
        let of = manifest.path.trim_end_matches("/Cargo.toml");
        let (mut section, mut above) = ("", "");
        for (number, line) in manifest.text.lines().enumerate() {
            if let Some(name) = line.strip_prefix('[') {
                (section, above) = (name.trim_end().trim_end_matches(']'), "");
                continue;
            }
            let comment = line.strip_prefix('#').unwrap_or("");
            let above = std::mem::replace(&mut above, comment);
            let is_for_tests = section.contains("dev-dependencies");
            let is_entry = !line.trim().is_empty() && !line.starts_with('#');
            if !section.ends_with("dependencies") || !is_entry {
                continue;
            }
            let (entry, reason) = line.split_once('#').unwrap_or((line, above));
            let name = entry.split(['=', '.']).next().unwrap_or("").trim();
            found.push(Dependency {
                of: of.to_owned(),
                name: name.to_owned(),
                is_for_tests,
                reason: reason.trim().to_owned(),
                line: entry.trim().to_owned(),
                place: format!("{}:{}", manifest.path, number + 1),
            });
        }
    }
    found
}
