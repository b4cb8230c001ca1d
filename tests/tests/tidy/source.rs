//! The workspace's sources as the tidy test sees them: which files there are, and their lines without comments and
//! literals. A scanner for this one purpose; it follows Rust's lexical rules only as far as they hide words.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub struct SourceFile {
    /// Relative to the workspace, with slashes.
    pub path: String,
    pub text: String,
    /// The text with every comment and literal blanked out, line breaks kept.
    code: String,
}

impl SourceFile {
    pub fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code: blank_comments_and_literals(text),
        }
    }

    /// Numbered lines that hold code, without comments and literals.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.code.lines().enumerate();
        numbered
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| !line.trim().is_empty())
    }

    /// The comment that line `number` stands under: walks up over the rest of its statement and attributes, which is
    /// at most a few lines, to the first lines that are comments.
    pub fn comment_above(&self, number: usize) -> String {
        const LINES_OF_A_STATEMENT: usize = 6;
        let lines: Vec<&str> = self.text.lines().take(number).collect();
        let mut comment = String::new();
        let mut code_passed = 0;
        for line in lines.iter().rev() {
            let trimmed = line.trim();
            if trimmed.starts_with("//") {
                comment.insert_str(0, trimmed);
                continue;
            }
            if !comment.is_empty() || trimmed.is_empty() || code_passed == LINES_OF_A_STATEMENT {
                break;
            }
            if let Some((_, rest)) = trimmed.split_once("/*") {
                return rest.to_owned();
            }
            code_passed += 1;
            if code_passed > 1 && trimmed.ends_with(';') {
                break; // the statement before
            }
        }
        comment
    }

    /// The modules and items imported directly from `std`.
    pub fn std_imports(&self) -> BTreeSet<String> {
        let mut imports = BTreeSet::new();
        for statement in self.code.split(';') {
            let Some((_, list)) = statement.split_once("use std::") else {
                continue;
            };
            let list = list.trim();
            let Some(grouped) = list.strip_prefix('{') else {
                imports.extend(first_name(list));
                continue;
            };
            let mut depth = 0;
            let mut item = String::new();
            for letter in grouped.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => imports.extend(first_name(&std::mem::take(&mut item))),
                    _ if depth == 0 => item.push(letter),
                    _ => {}
                }
            }
            imports.extend(first_name(&item));
        }
        imports
    }
}

fn first_name(path: &str) -> Option<String> {
    let name = path.trim().split("::").next()?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Every Rust file of the workspace, in a steady order.
pub fn rust_files() -> Vec<SourceFile> {
    let mut paths = Vec::new();
    for member in workspace_members() {
        collect(&workspace().join(member), &mut paths);
    }
    paths.sort();
    assert!(
        !paths.is_empty(),
        "no sources under {}",
        workspace().display()
    );
    let file = |path: &PathBuf| {
        let text =
            fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let relative = path.strip_prefix(workspace()).unwrap_or(path);
        SourceFile::new(&relative.to_string_lossy(), &text)
    };
    paths.iter().map(file).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// The folders named as members of the workspace, sorted.
pub fn workspace_members() -> Vec<String> {
    let manifest = read_manifest(".");
    let list = manifest
        .split_once("members = [")
        .and_then(|(_, rest)| rest.split_once(']'));
    let (list, _) = list.expect("members in Cargo.toml");
    let mut members: Vec<String> = list
        .split(',')
        .map(|member| member.trim().trim_matches('"').to_owned())
        .filter(|member| !member.is_empty())
        .collect();
    members.sort();
    members
}

/// The names under every `[…dependencies…]` of a member's manifest, those for building and testing included.
pub fn manifest_dependencies(member: &str) -> Vec<String> {
    let manifest = read_manifest(member);
    let mut names = Vec::new();
    let mut in_dependencies = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            in_dependencies = section.ends_with("dependencies");
            if let Some((_, name)) = section.split_once("dependencies.") {
                names.push(name.to_owned());
            }
        } else if in_dependencies && let Some((key, _)) = line.split_once('=') {
            let name = key.trim().split('.').next().unwrap_or_default();
            names.push(name.trim_matches('"').to_owned());
        }
    }
    names
}

fn read_manifest(member: &str) -> String {
    let path = workspace().join(member).join("Cargo.toml");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
}

/// Replaces comments, strings and character literals by blanks, keeping line breaks.
fn blank_comments_and_literals(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&letter) = letters.get(at) {
        let end = match letter {
            '/' if letters.get(at + 1) == Some(&'/') => line_end(&letters, at),
            '/' if letters.get(at + 1) == Some(&'*') => block_comment_end(&letters, at),
            '"' => string_end(&letters, at),
            'r' if !after_name(&letters, at) => raw_string_end(&letters, at).unwrap_or(at),
            '\'' => character_end(&letters, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            code.push(letter);
            at += 1;
            continue;
        }
        for hidden in letters.iter().take(end).skip(at) {
            code.push(if *hidden == '\n' { '\n' } else { ' ' });
        }
        at = end;
    }
    code
}

fn line_end(letters: &[char], from: usize) -> usize {
    let rest = letters.iter().skip(from);
    from + rest.take_while(|letter| **letter != '\n').count()
}

/// Block comments nest.
fn block_comment_end(letters: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at < letters.len() {
        match (letters[at], letters.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    letters.len()
}

fn string_end(letters: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < letters.len() {
        match letters[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    letters.len()
}

/// `r"…"`, `r#"…"#` and so on; `None` where the `r` begins no raw string.
fn raw_string_end(letters: &[char], from: usize) -> Option<usize> {
    let hashes = letters
        .iter()
        .skip(from + 1)
        .take_while(|letter| **letter == '#')
        .count();
    if letters.get(from + 1 + hashes) != Some(&'"') {
        return None;
    }
    let mut at = from + 2 + hashes;
    while at < letters.len() {
        let closing = letters[at] == '"'
            && letters
                .iter()
                .skip(at + 1)
                .take(hashes)
                .all(|letter| *letter == '#');
        if closing {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(letters.len())
}

/// The end of a character literal; `None` for a lifetime.
fn character_end(letters: &[char], from: usize) -> Option<usize> {
    if letters.get(from + 1) == Some(&'\\') {
        let rest = letters.iter().skip(from + 3);
        return Some(from + 3 + rest.take_while(|letter| **letter != '\'').count() + 1);
    }
    (letters.get(from + 2) == Some(&'\'')).then_some(from + 3)
}

/// Whether the letter at `at` goes on with a name, as the `r` of `for` does. `br"…"` begins a raw string.
fn after_name(letters: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|index| letters.get(index));
    before.is_some_and(|letter| *letter != 'b' && (letter.is_alphanumeric() || *letter == '_'))
}
