//! Kerberos, by the system's GSSAPI library: tickets in, names and keys out (RFC 2744).
//!
//! The library is loaded when a process judges its first ticket, and by nobody else: a child that
//! serves no Kerberos client never maps it. Its calls read the keytab and write the replay cache, so
//! they are made on the pool, as root. Only [`Keytab`] is seen outside; what it hands out is copied.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::security::kerberos::{Ticket, TicketError, Tickets};

/// Debian's libgssapi-krb5-2, and MIT's everywhere.
const LIBRARY: &CStr = c"libgssapi_krb5.so.2";
/// RFC 1964 1: 1.2.840.113554.1.2.2.
const KRB5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02];
/// GSS_C_INQ_SSPI_SESSION_KEY: 1.2.840.113554.1.2.2.5.5.
const SESSION_KEY: &[u8] = &[
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02, 0x05, 0x05,
];
const GSS_C_ACCEPT: c_int = 2;
const GSS_C_INDEFINITE: u32 = u32::MAX;
const GSS_C_GSS_CODE: c_int = 1;
const GSS_C_MECH_CODE: c_int = 2;
/// Calling and routine errors (RFC 2744 3.9.1); what is left says more than an error.
const ERROR_BITS: u32 = 0xffff_0000;
const GSS_S_FAILURE: u32 = 13 << 16;

#[repr(C)]
struct Oid {
    length: u32,
    elements: *const c_void,
}

#[repr(C)]
struct OidSet {
    count: usize,
    elements: *const Oid,
}

#[repr(C)]
struct Buffer {
    length: usize,
    value: *mut c_void,
}

#[repr(C)]
struct BufferSet {
    count: usize,
    elements: *mut Buffer,
}

#[repr(C)]
struct KeyValue {
    key: *const c_char,
    value: *const c_char,
}

#[repr(C)]
struct KeyValueSet {
    count: u32,
    elements: *const KeyValue,
}

/// A credential, context or name of the library's.
type Handle = *mut c_void;

type AcquireCredFrom = unsafe extern "C" fn(
    *mut u32,
    Handle,
    u32,
    *const OidSet,
    c_int,
    *const KeyValueSet,
    *mut Handle,
    *mut *mut OidSet,
    *mut u32,
) -> u32;
type AcceptSecContext = unsafe extern "C" fn(
    *mut u32,
    *mut Handle,
    Handle,
    *const Buffer,
    *mut c_void,
    *mut Handle,
    *mut *mut Oid,
    *mut Buffer,
    *mut u32,
    *mut u32,
    *mut Handle,
) -> u32;
type DisplayName = unsafe extern "C" fn(*mut u32, Handle, *mut Buffer, *mut *mut Oid) -> u32;
type LocalName = unsafe extern "C" fn(*mut u32, Handle, *const Oid, *mut Buffer) -> u32;
type InquireByOid = unsafe extern "C" fn(*mut u32, Handle, *const Oid, *mut *mut BufferSet) -> u32;
type GetMic = unsafe extern "C" fn(*mut u32, Handle, u32, *const Buffer, *mut Buffer) -> u32;
type VerifyMic =
    unsafe extern "C" fn(*mut u32, Handle, *const Buffer, *const Buffer, *mut u32) -> u32;
type DisplayStatus =
    unsafe extern "C" fn(*mut u32, u32, c_int, *const Oid, *mut u32, *mut Buffer) -> u32;
type ReleaseBuffer = unsafe extern "C" fn(*mut u32, *mut Buffer) -> u32;
type ReleaseBufferSet = unsafe extern "C" fn(*mut u32, *mut *mut BufferSet) -> u32;
type ReleaseHandle = unsafe extern "C" fn(*mut u32, *mut Handle) -> u32;
type DeleteSecContext = unsafe extern "C" fn(*mut u32, *mut Handle, *mut Buffer) -> u32;

/// The functions used. Never unloaded.
struct Library {
    acquire_cred_from: AcquireCredFrom,
    accept_sec_context: AcceptSecContext,
    display_name: DisplayName,
    localname: LocalName,
    inquire_by_oid: InquireByOid,
    get_mic: GetMic,
    verify_mic: VerifyMic,
    display_status: DisplayStatus,
    release_buffer: ReleaseBuffer,
    release_buffer_set: ReleaseBufferSet,
    release_name: ReleaseHandle,
    release_cred: ReleaseHandle,
    delete_sec_context: DeleteSecContext,
}

/// The library, or why it can't be had.
fn library() -> Result<&'static Library, TicketError> {
    static LOADED: OnceLock<Result<Library, String>> = OnceLock::new();
    match LOADED.get_or_init(load) {
        Ok(library) => Ok(library),
        Err(problem) => Err(TicketError::Library(problem.clone())),
    }
}

fn load() -> Result<Library, String> {
    // SAFETY: the name is a C string; the library's constructors only set up its own state.
    let handle = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(format!("{} can't be loaded", LIBRARY.to_string_lossy()));
    }
    let symbol = |name: &CStr| {
        // SAFETY: the handle is open and stays so; the name is a C string.
        let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
        match address.is_null() {
            true => Err(format!("it has no {}", name.to_string_lossy())),
            false => Ok(address),
        }
    };
    macro_rules! function {
        ($name:literal, $type:ty) => {
            // SAFETY: the symbol is the function of this name in GSSAPI's ABI (RFC 2744 and MIT's
            // gssapi_ext.h), whose C declaration the type repeats.
            unsafe { std::mem::transmute::<*mut c_void, $type>(symbol($name)?) }
        };
    }
    Ok(Library {
        acquire_cred_from: function!(c"gss_acquire_cred_from", AcquireCredFrom),
        accept_sec_context: function!(c"gss_accept_sec_context", AcceptSecContext),
        display_name: function!(c"gss_display_name", DisplayName),
        localname: function!(c"gss_localname", LocalName),
        inquire_by_oid: function!(c"gss_inquire_sec_context_by_oid", InquireByOid),
        get_mic: function!(c"gss_get_mic", GetMic),
        verify_mic: function!(c"gss_verify_mic", VerifyMic),
        display_status: function!(c"gss_display_status", DisplayStatus),
        release_buffer: function!(c"gss_release_buffer", ReleaseBuffer),
        release_buffer_set: function!(c"gss_release_buffer_set", ReleaseBufferSet),
        release_name: function!(c"gss_release_name", ReleaseHandle),
        release_cred: function!(c"gss_release_cred", ReleaseHandle),
        delete_sec_context: function!(c"gss_delete_sec_context", DeleteSecContext),
    })
}

/// The service's keys, and the context a ticket made with them.
pub struct Keytab {
    /// None is the system's.
    path: Option<PathBuf>,
    context: Option<Context>,
}

/// An established security context.
struct Context {
    gssapi: &'static Library,
    handle: Handle,
}

// SAFETY: MIT's contexts may be used by any thread, one at a time (its documentation, "thread
// safety"); `Context` is owned, and only lent mutably or for calls that take it as it is.
unsafe impl Send for Context {}

impl fmt::Debug for Keytab {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Keytab")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Keytab {
    /// The keytab of this path, or the system's.
    pub fn new(path: Option<PathBuf>) -> Keytab {
        Keytab {
            path,
            context: None,
        }
    }

    /// Whether the library is there and the keytab has a key.
    pub fn check(&self) -> Result<(), TicketError> {
        self.credential(library()?).map(drop)
    }

    fn credential(&self, library: &'static Library) -> Result<Owned, TicketError> {
        let path = self.path.as_ref().map(|path| {
            CString::new([b"FILE:", path.as_os_str().as_bytes()].concat())
                .map_err(|_| TicketError::Keytab("its path has a zero byte".into()))
        });
        let path = path.transpose()?;
        let element = KeyValue {
            key: c"keytab".as_ptr(),
            value: path.as_ref().map_or(null(), |path| path.as_ptr()),
        };
        let store = KeyValueSet {
            count: 1,
            elements: &element,
        };
        // An empty store is an error, none is the system's keytab.
        let store = path.as_ref().map_or(null(), |_| &raw const store);
        let krb5 = oid(KRB5);
        let mechanisms = OidSet {
            count: 1,
            elements: &krb5,
        };
        let mut credential = Owned {
            handle: null_mut(),
            release: library.release_cred,
        };
        let mut minor = 0;
        // SAFETY: every pointer is to a live local of the declared layout, or null where the
        // interface allows it; the library copies what it keeps.
        let major = unsafe {
            (library.acquire_cred_from)(
                &mut minor,
                null_mut(),
                GSS_C_INDEFINITE,
                &mechanisms,
                GSS_C_ACCEPT,
                store,
                &mut credential.handle,
                null_mut(),
                null_mut(),
            )
        };
        match major & ERROR_BITS {
            0 => Ok(credential),
            _ => Err(TicketError::Keytab(library.explain(major, minor))),
        }
    }
}

impl Tickets for Keytab {
    fn accept(&mut self, token: &[u8]) -> Result<Ticket, TicketError> {
        let library = library()?;
        let credential = self.credential(library)?;
        let mut context = Context {
            gssapi: library,
            handle: null_mut(),
        };
        let mut client = Owned {
            handle: null_mut(),
            release: library.release_name,
        };
        let mut reply = Text::empty(library);
        let (mut minor, mut lifetime) = (0, 0);
        let input = lent(token);
        // SAFETY: as in `credential`; `input` borrows the token for the call, and the outputs are
        // released by their owners.
        let major = unsafe {
            (library.accept_sec_context)(
                &mut minor,
                &mut context.handle,
                credential.handle,
                &input,
                null_mut(),
                &mut client.handle,
                null_mut(),
                &mut reply.buffer,
                null_mut(),
                &mut lifetime,
                null_mut(),
            )
        };
        if major & ERROR_BITS != 0 {
            return Err(TicketError::Refused(library.explain(major, minor)));
        }
        if major != 0 {
            // Only DCE style takes another leg, and SMB does not use it.
            return Err(TicketError::Refused(
                "the exchange takes another leg".into(),
            ));
        }
        let mut name = Text::empty(library);
        // SAFETY: the name is the library's, the output is released by its owner.
        let major = unsafe {
            (library.display_name)(&mut minor, client.handle, &mut name.buffer, null_mut())
        };
        if major & ERROR_BITS != 0 {
            return Err(TicketError::Refused(library.explain(major, minor)));
        }
        let principal = name.to_string().ok_or(TicketError::Name)?;
        let mut local = Text::empty(library);
        let krb5 = oid(KRB5);
        // SAFETY: as above.
        let major =
            unsafe { (library.localname)(&mut minor, client.handle, &krb5, &mut local.buffer) };
        let local_name = match major & ERROR_BITS {
            0 => local.to_string(),
            _ => None,
        };
        let session_key = context.session_key()?;
        let ticket = Ticket {
            reply: reply.bytes().to_vec(),
            principal,
            local_name,
            session_key,
            lifetime: (lifetime != GSS_C_INDEFINITE).then(|| Duration::from_secs(lifetime.into())),
        };
        self.context = Some(context);
        Ok(ticket)
    }

    fn sign(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let context = self.context.as_mut()?;
        let mut signature = Text::empty(context.gssapi);
        let input = lent(message);
        let mut minor = 0;
        // SAFETY: the context is established and ours alone; `input` borrows for the call.
        let major = unsafe {
            (context.gssapi.get_mic)(&mut minor, context.handle, 0, &input, &mut signature.buffer)
        };
        (major & ERROR_BITS == 0).then(|| signature.bytes().to_vec())
    }

    fn is_signature(&mut self, message: &[u8], signature: &[u8]) -> bool {
        let Some(context) = self.context.as_mut() else {
            return false;
        };
        let (message, signature) = (lent(message), lent(signature));
        let mut minor = 0;
        // SAFETY: as in `sign`.
        let major = unsafe {
            (context.gssapi.verify_mic)(
                &mut minor,
                context.handle,
                &message,
                &signature,
                null_mut(),
            )
        };
        major == 0
    }
}

impl Context {
    fn session_key(&self) -> Result<Zeroizing<Vec<u8>>, TicketError> {
        let mut set: *mut BufferSet = null_mut();
        let mut minor = 0;
        let wanted = oid(SESSION_KEY);
        // SAFETY: the context is established; the set is released below.
        let major =
            unsafe { (self.gssapi.inquire_by_oid)(&mut minor, self.handle, &wanted, &mut set) };
        if major & ERROR_BITS != 0 {
            return Err(TicketError::Refused(self.gssapi.explain(major, minor)));
        }
        let mut key = Zeroizing::new(Vec::new());
        if !set.is_null() {
            // SAFETY: the library filled the set: `count` buffers at `elements`, the first of
            // which is the key. It is copied, then wiped where it stood, before the set goes.
            unsafe {
                if (*set).count > 0 && !(*(*set).elements).value.is_null() {
                    let first = &*(*set).elements;
                    let bytes =
                        std::slice::from_raw_parts_mut(first.value.cast::<u8>(), first.length);
                    key.extend_from_slice(bytes);
                    zeroize::Zeroize::zeroize(bytes);
                }
                (self.gssapi.release_buffer_set)(&mut minor, &mut set);
            }
        }
        match key.is_empty() {
            true => Err(TicketError::Refused("the ticket has no session key".into())),
            false => Ok(key),
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the context is the library's or null, and nobody uses it any more.
        unsafe { (self.gssapi.delete_sec_context)(&mut minor, &mut self.handle, null_mut()) };
    }
}

/// A credential or a name, given back when dropped.
struct Owned {
    handle: Handle,
    release: ReleaseHandle,
}

impl Drop for Owned {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the handle is the library's of this kind, or null, and nobody uses it any more.
        unsafe { (self.release)(&mut minor, &mut self.handle) };
    }
}

/// Bytes the library allocated.
struct Text {
    gssapi: &'static Library,
    buffer: Buffer,
}

impl Text {
    fn empty(library: &'static Library) -> Text {
        Text {
            gssapi: library,
            buffer: Buffer {
                length: 0,
                value: null_mut(),
            },
        }
    }

    fn bytes(&self) -> &[u8] {
        if self.buffer.value.is_null() {
            return &[];
        }
        // SAFETY: the library filled `length` bytes at `value`, which live until `drop`.
        unsafe { std::slice::from_raw_parts(self.buffer.value.cast(), self.buffer.length) }
    }

    fn to_string(&self) -> Option<String> {
        let text = std::str::from_utf8(self.bytes()).ok()?;
        let text = text.trim_end_matches('\0');
        (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the buffer is empty or was allocated by the library.
        unsafe { (self.gssapi.release_buffer)(&mut minor, &mut self.buffer) };
    }
}

impl Library {
    /// What an error means, in the library's words.
    fn explain(&'static self, major: u32, minor: u32) -> String {
        let krb5 = oid(KRB5);
        let of = |code, kind, mechanism: *const Oid| {
            let mut text = Text::empty(self);
            let (mut ignored, mut more) = (0, 0);
            // SAFETY: the mechanism is a live local or null; the output is released by its owner.
            let status = unsafe {
                (self.display_status)(
                    &mut ignored,
                    code,
                    kind,
                    mechanism,
                    &mut more,
                    &mut text.buffer,
                )
            };
            match status & ERROR_BITS {
                0 => text.to_string(),
                _ => None,
            }
        };
        let general = of(major, GSS_C_GSS_CODE, null());
        let special = of(minor, GSS_C_MECH_CODE, &krb5);
        match (general, special) {
            (_, Some(special)) if major & ERROR_BITS == GSS_S_FAILURE => special,
            (Some(general), Some(special)) => format!("{general}; {special}"),
            (Some(text), None) | (None, Some(text)) => text,
            (None, None) => format!("error {major:#x}, {minor}"),
        }
    }
}

fn oid(bytes: &'static [u8]) -> Oid {
    Oid {
        length: u32::try_from(bytes.len()).unwrap_or(0),
        elements: bytes.as_ptr().cast(),
    }
}

/// A buffer for a call that only reads it.
fn lent(bytes: &[u8]) -> Buffer {
    Buffer {
        length: bytes.len(),
        value: bytes.as_ptr().cast_mut().cast(),
    }
}
