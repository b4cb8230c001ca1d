//! smb.conf's syntax: sections, `key = value`, comments, lines continued with a backslash.
//!
//! Called by `Config::parse`. Knows no parameter; a key is reduced to its letters, as Samba
//! compares them.

use super::error::Problems;

/// A `[name]` and the settings below it.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) settings: Vec<Setting>,
}

impl Section {
    pub(super) fn is_global(&self) -> bool {
        self.name.eq_ignore_ascii_case("global")
    }
}

#[derive(Debug)]
pub(super) struct Setting {
    /// As written.
    pub(super) key: String,
    pub(super) value: String,
    pub(super) line: usize,
}

impl Setting {
    /// Whether this sets the parameter of this name. Not for aliases.
    pub(super) fn is(&self, name: &str) -> bool {
        normalized(&self.key) == normalized(name)
    }
}

/// A key without its blanks and letter case: `Read Only`, `readonly` and `READ ONLY` are one.
pub(super) fn normalized(key: &str) -> String {
    key.chars()
        .filter(|letter| !letter.is_whitespace())
        .flat_map(char::to_lowercase)
        .collect()
}

/// The sections of a text. Settings before the first section are [global]'s, as in Samba.
pub(super) fn sections(text: &str, problems: &mut Problems) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for (number, line) in logical_lines(text) {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix('[') {
            match rest.strip_suffix(']').map(str::trim) {
                Some(name) if !name.is_empty() => {
                    sections.push(Section {
                        name: name.to_owned(),
                        line: number,
                        settings: Vec::new(),
                    });
                }
                _ => problems.add(
                    Some(number),
                    format!("{line:?} is no section; write [NAME]"),
                ),
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            let problem = format!("{line:?} is neither a [section] nor a `name = value`");
            problems.add(Some(number), problem);
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() {
            problems.add(Some(number), format!("{line:?} has no name before its ="));
            continue;
        }
        if sections.is_empty() {
            sections.push(Section {
                name: "global".into(),
                line: number,
                settings: Vec::new(),
            });
        }
        let Some(section) = sections.last_mut() else {
            continue;
        };
        if let Some(first) = section.settings.iter().find(|setting| setting.is(key)) {
            let problem = format!(
                "{key:?} is set a second time; line {} has the first",
                first.line
            );
            problems.add(Some(number), problem);
            continue;
        }
        let setting = Setting {
            key: key.to_owned(),
            value: value.to_owned(),
            line: number,
        };
        section.settings.push(setting);
    }
    sections
}

/// Lines with those joined that end in a backslash, each with the number it starts on; no comments,
/// no empty ones.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut pending: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end();
        let is_comment = line.trim_start().starts_with(['#', ';']);
        if pending.is_none() && (is_comment || line.is_empty()) {
            continue;
        }
        let (number, mut joined) = pending.take().unwrap_or((index + 1, String::new()));
        match line.strip_suffix('\\') {
            Some(begun) => {
                joined.push_str(begun);
                pending = Some((number, joined));
            }
            None => {
                joined.push_str(line);
                lines.push((number, joined));
            }
        }
    }
    lines.extend(pending);
    lines.retain(|(_, line)| !line.trim().is_empty());
    lines
}
