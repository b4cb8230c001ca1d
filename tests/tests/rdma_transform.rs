//! RDMA transform: a signed or encrypted session's payload by RDMA. Every case of Microsoft's suite for
//! MS-SMBD is a test by its name there, on the simulated fabric; in the lab one guest plays all of
//! them over soft-RoCE. `tests/src/transforms` has the cases.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fabric::rdma::Fabric;
use tests::client::simulated::SmbDirect;
use tests::lab::{Guest, binary, skip};
use tests::server::Server;
use tests::transforms::{SUITE, play};

fn on_fabric(case: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let enter = move |host: u8| {
        let address: IpAddr = [10, 9, 0, 2 + host].into();
        Fabric::new(&path, &format!("client{host}"), address).enter();
    };
    let server = Server::builder().on_fabric(folder.path());
    play::<SmbDirect>(case, server, Arc::new(enter));
}

fn in_lab(case: &str) {
    let player = match binary("transform-scenario") {
        Ok(player) => player,
        Err(error) => return skip::report(&error.to_string()),
    };
    let folder = player.parent().expect("a file is in a folder");
    let guest = Guest::builder()
        .script(&format!("ulimit -l unlimited; {} {case}", player.display()))
        .environment("SMBDIRECT_BIN_DIR", folder.display().to_string())
        .time_limit(Duration::from_secs(110));
    if let Some(outcome) = guest.run_or_skip() {
        outcome.assert_succeeded();
        assert!(outcome.output.contains(&format!("{case}: ok")));
    }
}

macro_rules! suite {
    ($($test:ident: $case:literal,)*) => {
        $(#[test]
        fn $test() {
            on_fabric($case);
        })*

        #[test]
        fn every_case_of_the_suite_is_a_test() {
            let named = [$($case),*];
            let cases: Vec<_> = SUITE.iter().map(|case| case.name).collect();
            assert_eq!(named.as_slice(), cases);
            let encryption = named.iter().filter(|name| name.starts_with("Encryption_"));
            assert_eq!((encryption.count(), named.len()), (24, 33));
        }
    };
}

suite! {
    encryption_read_large_file_aes128ccm: "Encryption_ReadLargeFile_AES128CCM",
    encryption_read_large_file_aes128gcm: "Encryption_ReadLargeFile_AES128GCM",
    encryption_read_large_file_aes256ccm: "Encryption_ReadLargeFile_AES256CCM",
    encryption_read_large_file_aes256gcm: "Encryption_ReadLargeFile_AES256GCM",
    encryption_read_multiple_operation: "Encryption_ReadMultipleOperation",
    encryption_write_large_file_aes128ccm: "Encryption_WriteLargeFile_AES128CCM",
    encryption_write_large_file_aes128gcm: "Encryption_WriteLargeFile_AES128GCM",
    encryption_write_large_file_aes256ccm: "Encryption_WriteLargeFile_AES256CCM",
    encryption_write_large_file_aes256gcm: "Encryption_WriteLargeFile_AES256GCM",
    encryption_write_multiple_operation: "Encryption_WriteMultipleOperation",
    encryption_no_transform_ids: "Encryption_WriteLargeFile_NoTransformIds_Fails",
    encryption_zero_transform_count: "Encryption_WriteLargeFile_ZeroTransformCount_Fails",
    encryption_multiple_encryption_structure: "Encryption_WriteLargeFile_MultipleEncryptionStructure_Fails",
    encryption_encryption_and_signing_structure: "Encryption_WriteLargeFile_EncryptionAndSigningStructure_Fails",
    encryption_buffer_not_aligned: "Encryption_WriteLargeFile_BufferNotAligned_Fails",
    encryption_increase_signature_length: "Encryption_WriteLargeFile_IncreaseSignatureLength_Fails",
    encryption_increase_nonce_length_aes128ccm: "Encryption_WriteLargeFile_IncreaseNonceLength_AES128CCM_Fails",
    encryption_increase_nonce_length_aes128gcm: "Encryption_WriteLargeFile_IncreaseNonceLength_AES128GCM_Fails",
    encryption_increase_nonce_length_aes256ccm: "Encryption_WriteLargeFile_IncreaseNonceLength_AES256CCM_Fails",
    encryption_increase_nonce_length_aes256gcm: "Encryption_WriteLargeFile_IncreaseNonceLength_AES256GCM_Fails",
    encryption_decrease_nonce_length_aes128ccm: "Encryption_WriteLargeFile_DecreaseNonceLength_AES128CCM_Fails",
    encryption_decrease_nonce_length_aes128gcm: "Encryption_WriteLargeFile_DecreaseNonceLength_AES128GCM_Fails",
    encryption_decrease_nonce_length_aes256ccm: "Encryption_WriteLargeFile_DecreaseNonceLength_AES256CCM_Fails",
    encryption_decrease_nonce_length_aes256gcm: "Encryption_WriteLargeFile_DecreaseNonceLength_AES256GCM_Fails",
    signing_read_large_file_aes_gmac: "Signing_ReadLargeFile_AES_GMAC",
    signing_read_large_file_aes_cmac: "Signing_ReadLargeFile_AES_CMAC",
    signing_write_large_file_aes_gmac: "Signing_WriteLargeFile_AES_GMAC",
    signing_write_large_file_aes_cmac: "Signing_WriteLargeFile_AES_CMAC",
    signing_flags_signed_not_set: "Signing_WriteLargeFile_FlagsSignedNotSet_Fails",
    signing_structure_with_the_encryption_id: "Signing_WriteLargeFile_SigningStructure_EncryptionId_Fails",
    signing_invalid_signature: "Signing_WriteLargeFile_InvalidSignature_Fails",
    signing_no_transform_ids: "Signing_WriteLargeFile_NoTransformIds_Fails",
    signing_zero_transform_count: "Signing_WriteLargeFile_ZeroTransformCount_Fails",
}

#[test]
fn payload_of_any_length_survives_each_algorithm_and_cipher() {
    on_fabric("lengths");
}

#[test]
fn a_transform_may_ask_to_have_its_token_invalidated() {
    on_fabric("invalidation");
}

#[test]
fn payload_that_was_changed_on_its_way_is_not_written() {
    on_fabric("changed-payload");
}

#[test]
fn a_bare_write_is_refused_where_a_sealed_one_is_served() {
    on_fabric("bare");
}

#[test]
fn each_channel_of_a_session_seals_with_its_own_key() {
    on_fabric("channels");
}

#[test]
fn a_server_that_must_sign_still_moves_payload_by_rdma() {
    on_fabric("mandatory-signing");
}

#[test]
fn a_server_that_must_encrypt_still_moves_payload_by_rdma() {
    on_fabric("required-encryption");
}

#[test]
fn transforms_can_be_switched_off() {
    on_fabric("switched-off");
}

#[test]
fn a_read_does_not_choose_its_transform() {
    on_fabric("read-by-transform");
}

#[test]
fn the_suite_passes_over_soft_roce() {
    in_lab("suite");
}

#[test]
fn what_the_suite_does_not_try_passes_over_soft_roce() {
    for case in ["lengths", "channels", "changed-payload"] {
        in_lab(case);
    }
}
