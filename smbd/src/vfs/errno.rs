//! The one table from errno to NTSTATUS. Every file call's failure goes through it; a place that
//! means something else by an errno (a path that leaves its share, say) maps that one itself first.

use proto::smb2::NtStatus;
use rustix::io::Errno;

/// What a client is told about a file call the kernel refused.
pub fn status_of(errno: Errno) -> NtStatus {
    TABLE
        .iter()
        .find(|(known, _)| *known == errno)
        .map_or(NtStatus::UNSUCCESSFUL, |(_, status)| *status)
}

const TABLE: &[(Errno, NtStatus)] = &[
    (Errno::NOENT, NtStatus::OBJECT_NAME_NOT_FOUND),
    (Errno::EXIST, NtStatus::OBJECT_NAME_COLLISION),
    (Errno::ACCESS, NtStatus::ACCESS_DENIED),
    (Errno::PERM, NtStatus::ACCESS_DENIED),
    (Errno::NOTDIR, NtStatus::OBJECT_PATH_NOT_FOUND),
    (Errno::ISDIR, NtStatus::FILE_IS_A_DIRECTORY),
    (Errno::NOTEMPTY, NtStatus::DIRECTORY_NOT_EMPTY),
    (Errno::NAMETOOLONG, NtStatus::NAME_TOO_LONG),
    (Errno::LOOP, NtStatus::ACCESS_DENIED),
    (Errno::XDEV, NtStatus::NOT_SAME_DEVICE),
    (Errno::NOSPC, NtStatus::DISK_FULL),
    (Errno::DQUOT, NtStatus::DISK_FULL),
    (Errno::FBIG, NtStatus::INVALID_PARAMETER),
    (Errno::INVAL, NtStatus::INVALID_PARAMETER),
    (Errno::ROFS, NtStatus::MEDIA_WRITE_PROTECTED),
    (Errno::MLINK, NtStatus::TOO_MANY_LINKS),
    (Errno::MFILE, NtStatus::TOO_MANY_OPENED_FILES),
    (Errno::NFILE, NtStatus::TOO_MANY_OPENED_FILES),
    (Errno::NOMEM, NtStatus::NO_MEMORY),
    (Errno::BUSY, NtStatus::SHARING_VIOLATION),
    (Errno::TXTBSY, NtStatus::SHARING_VIOLATION),
    (Errno::AGAIN, NtStatus::FILE_LOCK_CONFLICT),
    (Errno::NOLCK, NtStatus::INSUFFICIENT_RESOURCES),
    (Errno::DEADLK, NtStatus::LOCK_NOT_GRANTED),
    (Errno::IO, NtStatus::IO_DEVICE_ERROR),
    (Errno::NODEV, NtStatus::NO_SUCH_DEVICE),
    (Errno::NXIO, NtStatus::NO_SUCH_DEVICE),
    (Errno::BADF, NtStatus::INVALID_HANDLE),
    (Errno::STALE, NtStatus::FILE_CLOSED),
    (Errno::NOTSUP, NtStatus::NOT_SUPPORTED),
    (Errno::NOSYS, NtStatus::NOT_SUPPORTED),
    (Errno::NODATA, NtStatus::NOT_FOUND),
    (Errno::RANGE, NtStatus::BUFFER_TOO_SMALL),
    (Errno::TIMEDOUT, NtStatus::IO_TIMEOUT),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_meet_most_has_the_status_clients_expect() {
        for (errno, status) in [
            (Errno::NOENT, NtStatus::OBJECT_NAME_NOT_FOUND),
            (Errno::NOSPC, NtStatus::DISK_FULL),
            (Errno::DQUOT, NtStatus::DISK_FULL),
            (Errno::ACCESS, NtStatus::ACCESS_DENIED),
            (Errno::NOTEMPTY, NtStatus::DIRECTORY_NOT_EMPTY),
            (Errno::ROFS, NtStatus::MEDIA_WRITE_PROTECTED),
        ] {
            assert_eq!(status_of(errno), status, "{errno}");
        }
    }

    #[test]
    fn an_unknown_errno_is_an_error_and_no_errno_stands_twice() {
        assert!(status_of(Errno::from_raw_os_error(4000)).is_error());
        for (index, (errno, status)) in TABLE.iter().enumerate() {
            assert!(status.is_error(), "{errno}");
            assert!(TABLE[..index].iter().all(|(other, _)| other != errno));
        }
    }
}
