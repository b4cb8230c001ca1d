//! `fuzz list` prints the targets; `fuzz seeds TARGET FOLDER` writes a target's seeds, for a search.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => {
            for target in fuzz::TARGETS {
                println!("{}", target.name);
            }
            ExitCode::SUCCESS
        }
        ["seeds", name, folder] => write_seeds(name, Path::new(folder)),
        _ => {
            eprintln!("usage: fuzz list | fuzz seeds TARGET FOLDER");
            ExitCode::FAILURE
        }
    }
}

fn write_seeds(name: &str, folder: &Path) -> ExitCode {
    let Some(target) = fuzz::target(name) else {
        eprintln!("{name}: no such target; 'fuzz list' shows them");
        return ExitCode::FAILURE;
    };
    for (number, seed) in (target.seeds)().iter().enumerate() {
        let file = folder.join(format!("seed-{number}"));
        if let Err(error) = std::fs::write(&file, seed) {
            eprintln!("{}: {error}; name a folder that exists", file.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
