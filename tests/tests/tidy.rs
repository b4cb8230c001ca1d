//! The layering rules of ARCHITECTURE.md and the house style, as far as a program can check them: who depends on whom,
//! where `unsafe` may stand, what the protocol crate may not touch, how files are named, opened and how long they get.
//! Reads the sources as text; each test lists every violation at once, with file and line.

#[path = "tidy/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};

use source::{SourceFile, manifest_dependencies, rust_files};

/// The crates of the workspace and those among them that each may depend on.
const MAY_DEPEND_ON: [(&str, &[&str]); 8] = [
    ("fabric", &["proto", "shm"]),
    ("fuzz", &["proto", "smbd"]),
    ("proto", &[]),
    ("shm", &["proto"]),
    ("smbdirectd", &["proto", "shm"]),
    ("smbd", &["proto", "shm"]),
    ("tests", &["fabric", "proto", "shm", "smbdirectd", "smbd"]),
    ("tests/sim", &["proto", "shm", "smbd"]),
];

/// Where `unsafe` may stand: memory shared with other processes, verbs, raw system calls, GSSAPI, and the verbs of
/// the test client.
const UNSAFE_ALLOWED: [&str; 5] = [
    "shm/",
    "smbdirectd/src/rdma/",
    "smbd/src/sys/",
    "smbd/src/security/gssapi",
    "tests/src/client/verbs",
];

/// What would make protocol code depend on a machine: files, sockets, processes, clocks, chance. Addresses of
/// `std::net` are plain data and stay allowed.
const FORBIDDEN_IN_PROTO: [&str; 16] = [
    "std::fs",
    "std::io",
    "std::os",
    "std::env",
    "std::thread",
    "std::process",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "UnixStream",
    "Instant::now",
    "SystemTime",
    "std::time::Instant",
    "libc::",
    "tokio::",
];

const FORBIDDEN_NAMES: [&str; 8] = [
    "utils", "util", "common", "helpers", "helper", "misc", "manager", "managers",
];

/// A file longer than this needs a line in [`LONG_FILES`].
const LINES_AT_MOST: usize = 600;

/// Files that may be longer, each with the reason.
const LONG_FILES: [(&str, &str); 0] = [];

#[test]
fn crates_depend_only_on_the_layers_below() {
    let crates: BTreeSet<&str> = MAY_DEPEND_ON.iter().map(|(name, _)| *name).collect();
    let mut violations = Vec::new();
    for (name, allowed) in MAY_DEPEND_ON {
        for dependency in manifest_dependencies(name) {
            if crates.contains(dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                violations.push(format!(
                    "{name}/Cargo.toml: {name} must not depend on {dependency}"
                ));
            }
        }
    }
    assert_none(violations);
}

#[test]
fn every_crate_of_the_workspace_has_its_layer() {
    let mut known: Vec<&str> = MAY_DEPEND_ON.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(
        source::workspace_members(),
        known,
        "members of Cargo.toml and MAY_DEPEND_ON"
    );
}

#[test]
fn unsafe_stands_only_where_it_may() {
    let mut violations = Vec::new();
    for file in rust_files() {
        if UNSAFE_ALLOWED
            .iter()
            .any(|prefix| file.path.starts_with(prefix))
        {
            continue;
        }
        for (number, line) in file.code_lines() {
            if has_word(line, "unsafe") {
                violations.push(format!(
                    "{}:{number}: unsafe is not allowed here",
                    file.path
                ));
            }
        }
    }
    assert_none(violations);
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let mut violations = Vec::new();
    for file in rust_files() {
        for (number, line) in file.code_lines() {
            if (has_word(line, "unsafe")
                && (line.contains("unsafe {") || line.contains("unsafe impl")))
                && !file.comment_above(number).contains("SAFETY:")
            {
                violations.push(format!("{}:{number}: no SAFETY: comment above", file.path));
            }
        }
    }
    assert_none(violations);
}

#[test]
fn protocol_code_touches_no_machine() {
    let mut violations = Vec::new();
    for file in rust_files() {
        if !file.path.starts_with("proto/src/") {
            continue;
        }
        for (number, line) in file.code_lines() {
            for word in FORBIDDEN_IN_PROTO {
                if line.contains(word) {
                    violations.push(format!("{}:{number}: {word}", file.path));
                }
            }
        }
        for import in file.std_imports() {
            if ["fs", "io", "os", "env", "thread", "process"].contains(&import.as_str()) {
                violations.push(format!("{}: imports std::{import}", file.path));
            }
        }
    }
    assert_none(violations);
}

#[test]
fn modules_are_named_after_what_they_hold() {
    let mut violations = Vec::new();
    for file in rust_files() {
        for part in file.path.trim_end_matches(".rs").split('/') {
            if FORBIDDEN_NAMES.contains(&part) {
                violations.push(format!("{}: '{part}' names nothing", file.path));
            }
        }
        for (number, line) in file.code_lines() {
            if let Some(name) = inline_module(line)
                && FORBIDDEN_NAMES.contains(&name)
            {
                violations.push(format!(
                    "{}:{number}: 'mod {name}' names nothing",
                    file.path
                ));
            }
        }
    }
    assert_none(violations);
}

#[test]
fn getters_have_no_prefix() {
    let mut violations = Vec::new();
    for file in rust_files() {
        for (number, line) in file.code_lines() {
            if line.contains("fn get_") {
                violations.push(format!("{}:{number}: a function named get_", file.path));
            }
        }
    }
    assert_none(violations);
}

#[test]
fn every_module_opens_with_what_it_owns() {
    let mut violations = Vec::new();
    for file in rust_files() {
        let is_unit_tests = file.path.ends_with("/tests.rs");
        if !is_unit_tests && !file.text.trim().is_empty() && !file.text.starts_with("//!") {
            violations.push(format!("{}:1: does not open with //!", file.path));
        }
    }
    assert_none(violations);
}

#[test]
fn files_stay_readable_in_length() {
    let reasons: BTreeMap<&str, &str> = LONG_FILES.into_iter().collect();
    let mut violations = Vec::new();
    let mut too_long = BTreeSet::new();
    for file in rust_files() {
        let lines = file.text.lines().count();
        if lines > LINES_AT_MOST {
            too_long.insert(file.path.clone());
            if !reasons.contains_key(file.path.as_str()) {
                violations.push(format!(
                    "{}: {lines} lines, and no reason in LONG_FILES",
                    file.path
                ));
            }
        }
    }
    for path in reasons.keys() {
        if !too_long.contains(*path) {
            violations.push(format!(
                "{path}: is not that long (any more): take it off LONG_FILES"
            ));
        }
    }
    assert_none(violations);
}

/// `name` of a line `mod name`, `pub mod name` or `pub(crate) mod name`.
fn inline_module(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    words.find(|word| *word == "mod")?;
    Some(words.next()?.trim_end_matches([';', '{']))
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .any(|part| part == word)
}

#[track_caller]
fn assert_none(violations: Vec<String>) {
    assert!(
        violations.is_empty(),
        "{} violations:\n{}",
        violations.len(),
        violations.join("\n")
    );
}

#[test]
fn comments_and_literals_are_not_taken_for_code() {
    let text = "let a = \"unsafe { }\"; // unsafe\n/* unsafe\nunsafe */ let b = r#\"unsafe \" {\"#;\nlet c = '\"'; unsafe_name();\n";
    let file = SourceFile::new("x.rs", text);
    let code: Vec<_> = file.code_lines().map(|(_, line)| line).collect();
    assert!(
        code.iter().all(|line| !has_word(line, "unsafe")),
        "{code:?}"
    );
    assert!(code[1].contains("let b"));
    assert!(code[2].contains("unsafe_name()"));
}

#[test]
fn grouped_imports_of_std_are_seen() {
    let file = SourceFile::new(
        "x.rs",
        "use std::{\n    collections::{BTreeMap, fs},\n    io::{self, Read},\n};\nuse std::fs;\n",
    );
    let imports: Vec<_> = file.std_imports().into_iter().collect();
    assert_eq!(imports, ["collections", "fs", "io"]);
}

#[test]
fn safety_comments_reach_over_attributes_and_bindings() {
    let file = SourceFile::new(
        "x.rs",
        "// SAFETY: checked\n#[rustfmt::skip]\nlet a = unsafe { b() };\n\nlet c = unsafe { d() };\n",
    );
    assert!(file.comment_above(3).contains("SAFETY:"));
    assert!(!file.comment_above(5).contains("SAFETY:"));
}
