//! smbdirectd on the simulated fabric: its own `main`, linked with the fabric in place of a device.
//! `SMBDIRECT_FABRIC` and `SMBDIRECT_FABRIC_DEVICES` say where (`rdma::Fabric`).

extern crate fabric as smbdirectd;

#[path = "../../smbdirectd/src/main.rs"]
mod program;

fn main() -> std::process::ExitCode {
    program::main()
}
