//! A client that does what Windows does, recorded in the lab: what tshark shows of it, field by field, is what
//! this project's own decoders make of the same bytes.
//! `./x soak capture` plays it longer and lists the fields.

#[path = "scenario/mod.rs"]
mod scenario;

#[test]
fn every_field_that_a_decoder_shows_of_a_client_as_windows_is_has_the_value_meant() {
    let Some(outcome) = scenario::record("windows-flow") else {
        return;
    };
    let Some(compared) = scenario::compare(&outcome) else {
        return;
    };
    let kinds: Vec<&String> = compared.messages.keys().collect();
    assert!(
        compared.differences.is_empty(),
        "{:#?}",
        compared.differences
    );
    // Nothing was passed over for want of being there.
    for kind in [
        "smb_direct.negotiate_request",
        "smb_direct.negotiate_response",
        "smb_direct.data_message",
        "Negotiate response",
        "SessionSetup response",
        "TreeConnect response",
        "Ioctl response",
        "Create response",
        "QueryInfo response",
        "QueryDirectory response",
        "SetInfo response",
        "Read response",
        "Write response",
        "Lock response",
        "ChangeNotify response, error",
        "Close response",
        "Logoff response",
    ] {
        assert!(
            compared.messages.contains_key(kind),
            "no {kind} of {kinds:?}"
        );
    }
    let descriptors = compared.fields.get("smb2.buffer_descriptor.token");
    assert!(descriptors.is_some_and(|count| *count > 10));
    assert!(compared.fields.len() > 400 && compared.transfers > 10);
}
