//! Bits by tshark's names, each as our own flags have them.

use proto::smb2::HeaderFlags;
use proto::smb2::access::*;
use proto::smb2::change_notify::{ChangeNotifyFlags, CompletionFilter};
use proto::smb2::close::CloseFlags;
use proto::smb2::fsctl::InterfaceCapability;
use proto::smb2::info::file_system::FsAttributes;
use proto::smb2::lease::{LeaseFlags, LeaseState};
use proto::smb2::lock::LockFlags;
use proto::smb2::negotiate::{Capabilities, SecurityMode};
use proto::smb2::negotiate_context::CompressionFlags;
use proto::smb2::query_directory::QueryDirectoryFlags;
use proto::smb2::read::ReadFlags;
use proto::smb2::session_setup::{SessionFlags, SessionSetupFlags};
use proto::smb2::tree_connect::{ShareCapabilities, ShareFlags, TreeConnectFlags};
use proto::smb2::write::WriteFlags;

/// Names and masks; a name may be of more than one bit, which are shown as a number.
pub type Bits = &'static [(&'static str, u64)];

/// CachingPolicy has a value of two bits (MS-SMB2 2.2.10).
pub const CACHING_POLICY: u64 = ShareFlags::NO_CACHING.bits() as u64;

/// A table of a flags type: the end of tshark's name, behind a prefix, and our flag; or the bit that has none.
macro_rules! bits {
    ($($(#[$meta:meta])* $table:ident = $prefix:literal $flags:ident { $($name:literal: $flag:tt,)* })*) => {$(
        $(#[$meta])*
        pub const $table: Bits = &[$((concat!($prefix, ".", $name), bits!(@ $flags $flag)),)*];
    )*};
    (@ $flags:ident $bit:literal) => { $bit };
    (@ $flags:ident $flag:ident) => { $flags::$flag.bits() as u64 };
}

bits! {
    HEADER = "smb2.flags" HeaderFlags {
        "response": SERVER_TO_REDIR, "async": ASYNC_COMMAND, "chained": RELATED_OPERATIONS,
        "signature": SIGNED, "priority_mask": PRIORITY_MASK, "dfs": DFS_OPERATIONS,
        "replay": REPLAY_OPERATION,
    }

    SECURITY_MODE = "smb2.sec_mode" SecurityMode {
        "sign_enabled": SIGNING_ENABLED, "sign_required": SIGNING_REQUIRED,
    }

    CAPABILITIES = "smb2.capabilities" Capabilities {
        "dfs": DFS, "leasing": LEASING, "large_mtu": LARGE_MTU, "multi_channel": MULTI_CHANNEL,
        "persistent_handles": PERSISTENT_HANDLES, "directory_leasing": DIRECTORY_LEASING,
        "encryption": ENCRYPTION,
    }

    COMPRESSION = "smb2.negotiate_context.comp_alg_flags" CompressionFlags {
        "chained": CHAINED,
    }

    SESSION_SETUP = "smb2.ses_req_flags" SessionSetupFlags {
        "session_binding": BINDING,
    }

    SESSION = "smb2.ses_flags" SessionFlags {
        "guest": IS_GUEST, "null": IS_NULL, "encrypt": ENCRYPT_DATA,
    }

    TREE_CONNECT = "smb2.tc" TreeConnectFlags {
        "cluster_reconnect": CLUSTER_RECONNECT, "redirect_to_owner": REDIRECT_TO_OWNER,
        "extension_present": EXTENSION_PRESENT,
    }

    SHARE = "smb2.share_flags" ShareFlags {
        "dfs": DFS, "dfs_root": DFS_ROOT, "restrict_exclusive_opens": RESTRICT_EXCLUSIVE_OPENS,
        "force_shared_delete": FORCE_SHARED_DELETE,
        "allow_namespace_caching": ALLOW_NAMESPACE_CACHING,
        "access_based_dir_enum": ACCESS_BASED_DIRECTORY_ENUM,
        "force_levelii_oplock": FORCE_LEVELII_OPLOCK, "enable_hash_v1": ENABLE_HASH_V1,
        "enable_hash_v2": ENABLE_HASH_V2, "encrypt_data": ENCRYPT_DATA,
        "identity_remoting": IDENTITY_REMOTING, "compress_data": COMPRESS_DATA,
    }

    SHARE_CAPABILITIES = "smb2.share_caps" ShareCapabilities {
        "dfs": DFS, "continuous_availability": CONTINUOUS_AVAILABILITY, "scaleout": SCALEOUT,
        "cluster": CLUSTER, "assymetric": ASYMMETRIC, "redirect_to_owner": REDIRECT_TO_OWNER,
    }

    ACCESS = "smb.access" AccessMask {
        "read": READ_DATA, "write": WRITE_DATA, "append": APPEND_DATA, "read_ea": READ_EA,
        "write_ea": WRITE_EA, "execute": EXECUTE, "delete_child": DELETE_CHILD,
        "read_attributes": READ_ATTRIBUTES, "write_attributes": WRITE_ATTRIBUTES, "delete": DELETE,
        "read_control": READ_CONTROL, "write_dac": WRITE_DAC, "write_owner": WRITE_OWNER,
        "synchronize": SYNCHRONIZE, "system_security": ACCESS_SYSTEM_SECURITY,
        "maximum_allowed": MAXIMUM_ALLOWED, "generic_all": GENERIC_ALL,
        "generic_execute": GENERIC_EXECUTE, "generic_write": GENERIC_WRITE,
        "generic_read": GENERIC_READ,
    }

    SHARE_ACCESS = "smb.share.access" ShareAccess {
        "read": READ, "write": WRITE, "delete": DELETE,
    }

    CREATE_OPTIONS = "smb.nt.create_options" CreateOptions {
        "directory": DIRECTORY_FILE, "write_through": WRITE_THROUGH,
        "sequential_only": SEQUENTIAL_ONLY, "intermediate_buffering": NO_INTERMEDIATE_BUFFERING,
        "sync_io_alert": SYNCHRONOUS_IO_ALERT, "sync_io_nonalert": SYNCHRONOUS_IO_NONALERT,
        "non_directory": NON_DIRECTORY_FILE, "create_tree_connection": 0x80,
        "complete_if_oplocked": COMPLETE_IF_OPLOCKED, "no_ea_knowledge": NO_EA_KNOWLEDGE,
        "eight_dot_three_only": OPEN_REMOTE_INSTANCE, "random_access": RANDOM_ACCESS,
        "delete_on_close": DELETE_ON_CLOSE, "open_by_fileid": OPEN_BY_FILE_ID,
        "backup_intent": OPEN_FOR_BACKUP_INTENT, "no_compression": NO_COMPRESSION,
        "reserve_opfilter": RESERVE_OPFILTER, "open_reparse_point": OPEN_REPARSE_POINT,
        "open_no_recall": OPEN_NO_RECALL, "open_for_free_space_query": OPEN_FOR_FREE_SPACE_QUERY,
    }

    ATTRIBUTES = "smb2.file_attribute" FileAttributes {
        "read_only": READONLY, "hidden": HIDDEN, "system": SYSTEM, "directory": DIRECTORY,
        "archive": ARCHIVE, "normal": NORMAL, "temporary": TEMPORARY, "sparse": SPARSE_FILE,
        "reparse": REPARSE_POINT, "compressed": COMPRESSED, "offline": OFFLINE,
        "not_content_indexed": NOT_CONTENT_INDEXED, "encrypted": ENCRYPTED,
        "integrity_stream": INTEGRITY_STREAM, "no_scrub_data": NO_SCRUB_DATA,
    }

    /// The same where tshark has them as of SMB1, with two that SMB2 has not.
    OLD_ATTRIBUTES = "smb.file_attribute" FileAttributes {
        "read_only": READONLY, "hidden": HIDDEN, "system": SYSTEM, "volume": 0x8,
        "directory": DIRECTORY, "archive": ARCHIVE, "device": 0x40, "normal": NORMAL,
        "temporary": TEMPORARY, "sparse": SPARSE_FILE, "reparse": REPARSE_POINT,
        "compressed": COMPRESSED, "offline": OFFLINE, "not_content_indexed": NOT_CONTENT_INDEXED,
        "encrypted": ENCRYPTED,
    }

    LEASE_STATE = "smb2.lease.lease_state" LeaseState {
        "read_caching": READ_CACHING, "handle_caching": HANDLE_CACHING,
        "write_caching": WRITE_CACHING,
    }

    /// BreakAckRequired is a break's alone.
    LEASE = "smb2.lease.lease_state" LeaseFlags {
        "break_ack_required": 0x1, "break_in_progress": BREAK_IN_PROGRESS,
        "parent_lease_key_set": PARENT_LEASE_KEY_SET,
    }

    CLOSE = "smb2.close" CloseFlags {
        "pq_attrib": POSTQUERY_ATTRIB,
    }

    READ = "smb2.read_flags" ReadFlags {
        "unbuffered": UNBUFFERED, "compressed": REQUEST_COMPRESSED,
    }

    WRITE = "smb2.write.flags" WriteFlags {
        "write_through": WRITE_THROUGH, "unbuffered": WRITE_UNBUFFERED,
    }

    LOCK = "smb2.lock_flags" LockFlags {
        "shared": SHARED, "exclusive": EXCLUSIVE, "unlock": UNLOCK,
        "fail_immediately": FAIL_IMMEDIATELY,
    }

    NOTIFY = "smb2.notify" ChangeNotifyFlags {
        "watch_tree": WATCH_TREE,
    }

    COMPLETION_FILTER = "smb.nt.notify" CompletionFilter {
        "file_name": FILE_NAME, "dir_name": DIR_NAME, "attributes": ATTRIBUTES, "size": SIZE,
        "last_write": LAST_WRITE, "last_access": LAST_ACCESS, "creation": CREATION, "ea": EA,
        "security": SECURITY, "stream_name": STREAM_NAME, "stream_size": STREAM_SIZE,
        "stream_write": STREAM_WRITE,
    }

    FIND = "smb2.find" QueryDirectoryFlags {
        "restart_scans": RESTART_SCANS, "single_entry": RETURN_SINGLE_ENTRY,
        "index_specified": INDEX_SPECIFIED, "reopen": REOPEN,
    }

    INTERFACE = "smb2.ioctl.network_interfaces.capabilities" InterfaceCapability {
        "rss": RSS_CAPABLE, "rdma": RDMA_CAPABLE,
    }

    FS_ATTRIBUTES = "smb.fs_attr" FsAttributes {
        "css": CASE_SENSITIVE_SEARCH, "cpn": CASE_PRESERVED_NAMES, "uod": UNICODE_ON_DISK,
        "pacls": PERSISTENT_ACLS, "fc": FILE_COMPRESSION, "vq": VOLUME_QUOTAS,
        "ssf": SUPPORTS_SPARSE_FILES, "srp": SUPPORTS_REPARSE_POINTS, "srs": 0x100, "sla": 0x200,
        "vis": 0x8000, "soids": SUPPORTS_OBJECT_IDS, "se": SUPPORTS_ENCRYPTION, "ns": NAMED_STREAMS,
        "rov": READ_ONLY_VOLUME, "swo": 0x100000, "st": 0x200000, "shl": SUPPORTS_HARD_LINKS,
        "sis": SUPPORTS_EXTENDED_ATTRIBUTES, "sbr": SUPPORTS_OPEN_BY_FILE_ID, "ssv": 0x2000000,
    }

    /// FILE_DEVICE_INFORMATION's Characteristics (MS-FSCC 2.5.10).
    DEVICE = "smb.device" CreateOptions {
        "removable": 0x1, "read_only": 0x2, "floppy": 0x4, "write_once": 0x8, "remote": 0x10,
        "mounted": 0x20, "virtual": 0x40, "secure_open": 0x100, "ts": 0x1000, "webdav": 0x2000,
        "aat": 0x20000, "portable": 0x4000,
    }

    /// FileModeInformation (MS-FSCC 2.4.31): the options a file was opened with.
    MODE = "smb2.mode" CreateOptions {
        "file_write_through": WRITE_THROUGH, "file_sequential_only": SEQUENTIAL_ONLY,
        "file_no_intermediate_buffering": NO_INTERMEDIATE_BUFFERING,
        "file_synchronous_io_alert": SYNCHRONOUS_IO_ALERT,
        "file_synchronous_io_nonalert": SYNCHRONOUS_IO_NONALERT,
        "file_delete_on_close": DELETE_ON_CLOSE,
    }
}
