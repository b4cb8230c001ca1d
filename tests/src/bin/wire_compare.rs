//! `wire_compare [--list] PCAP…`: compares what tshark shows of recordings, field by field, with what our own decoders
//! make of the same bytes (`tests::wire`). `--list` names each field and how often it was compared.
//! Status 1 where anything differs, 77 without tshark.

use std::path::Path;
use std::process::ExitCode;

use tests::lab::LabError;
use tests::wire::compare;

const MOST_LINES: usize = 40;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let recordings = arguments.iter().filter(|argument| *argument != "--list");
    let mut differing = 0;
    for recording in recordings {
        let comparison = match compare(Path::new(recording)) {
            Ok(comparison) => comparison,
            Err(LabError::Skip(reason)) => {
                println!("capture: skipped: {reason}");
                return ExitCode::from(77);
            }
            Err(error) => {
                eprintln!("capture: {error}");
                return ExitCode::FAILURE;
            }
        };
        for difference in comparison.differences.iter().take(MOST_LINES) {
            println!("{difference}");
        }
        if arguments.iter().any(|argument| argument == "--list") {
            for (what, count) in comparison.messages.iter().chain(&comparison.fields) {
                println!("{count:7} {what}");
            }
        }
        println!(
            "capture: frames={} messages={} fields={} values={} rdma={} differences={}",
            comparison.frames,
            comparison.messages.values().sum::<usize>(),
            comparison.fields.len(),
            comparison.fields.values().sum::<usize>(),
            comparison.transfers,
            comparison.differences.len()
        );
        differing += comparison.differences.len();
        differing += usize::from(comparison.messages.is_empty());
    }
    match differing {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
