//! Operations on many small files by one client that waits for each answer. What is timed stands here, in order; the
//! requests of each operation are in `folder`.

use tests::client::ClientError;

use super::folder::Folder;
use super::{Phase, Target};

const LISTINGS: u32 = 10;

type Operation = fn(&mut Folder, u32) -> Result<(), ClientError>;

/// The figures that are an operation on each of the files, before and after the folder is listed.
const BEFORE_LISTING: [(&str, Operation); 3] = [
    ("create", |folder, number| folder.create(&file(number))),
    ("stat", |folder, number| folder.stat(&file(number))),
    ("open", |folder, number| folder.open_and_read(&file(number))),
];
const AFTER_LISTING: [(&str, Operation); 3] = [
    ("rename", |folder, number| {
        folder.rename(&file(number), &moved(number))
    }),
    ("delete", |folder, number| folder.delete(&moved(number))),
    ("mkdir", |folder, number| {
        folder.make_directory(&file(number))
    }),
];

pub fn measure(target: &Target, count: u32) -> Result<(), ClientError> {
    let mut connection = target.connect(None)?;
    let (_, tree) = target.enter(&mut connection)?;
    let mut folder = Folder { connection, tree };
    folder.make_directory("many")?;
    for (key, operation) in BEFORE_LISTING {
        each(target, &mut folder, count, operation)?.print(key, 1.0);
    }
    list(target, &mut folder, count)?.print("list", 1.0);
    for (key, operation) in AFTER_LISTING {
        each(target, &mut folder, count, operation)?.print(key, 1.0);
    }
    (0..count).try_for_each(|number| folder.delete(&file(number)))?;
    folder.delete("many")
}

fn each(
    target: &Target,
    folder: &mut Folder,
    count: u32,
    operation: Operation,
) -> Result<Phase, ClientError> {
    Phase::measure(target, || {
        (0..count).try_for_each(|number| operation(folder, number))?;
        Ok(u64::from(count))
    })
}

/// Counts entries, so that a server that leaves some out is not the faster one.
fn list(target: &Target, folder: &mut Folder, count: u32) -> Result<Phase, ClientError> {
    let expected = count + 2; // with "." and ".."
    Phase::measure(target, || {
        for _ in 0..LISTINGS {
            let listed = folder.list("many")?;
            if listed != expected {
                let told = format!("a listing of {expected} entries has {listed}");
                return Err(ClientError::Protocol(told));
            }
        }
        Ok(u64::from(expected * LISTINGS))
    })
}

fn file(number: u32) -> String {
    format!("many\\file-{number:05}")
}

fn moved(number: u32) -> String {
    format!("many\\moved-{number:05}")
}
