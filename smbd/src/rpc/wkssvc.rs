//! The workstation service (MS-WKST): what its calls answer. Only level 100 is for everybody; the
//! higher ones are an administrator's on Windows too (3.2.4.1).

use proto::rpc::srvsvc::PLATFORM_ID_NT;
use proto::rpc::wkssvc::{NETR_WKSTA_GET_INFO, WkstaGetInfoRequest, WkstaInfo100, encode_failure};
use proto::rpc::{FaultStatus, Win32Error};

use super::Served;
use super::srvsvc::VERSION;

pub(super) fn call(opnum: u16, stub: &[u8], served: &Served) -> Result<Vec<u8>, FaultStatus> {
    if opnum != NETR_WKSTA_GET_INFO {
        return Err(FaultStatus::OP_RANGE_ERROR);
    }
    let request = WkstaGetInfoRequest::decode(stub).map_err(|_| FaultStatus::BAD_STUB_DATA)?;
    Ok(match request.level {
        100 => WkstaInfo100 {
            platform_id: PLATFORM_ID_NT,
            computer_name: &served.server_name,
            lan_group: &served.workgroup,
            version_major: VERSION.0,
            version_minor: VERSION.1,
        }
        .encode(),
        level @ (101 | 102) => encode_failure(level, Win32Error::ACCESS_DENIED),
        level => encode_failure(level, Win32Error::INVALID_LEVEL),
    })
}
