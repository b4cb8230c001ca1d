//! smbdirectd on the simulated fabric: its own program, linked with the fabric in place of a device.
//! `SMBDIRECT_FABRIC` and `SMBDIRECT_FABRIC_DEVICES` say where (`rdma::Fabric`).

fn main() -> std::process::ExitCode {
    fabric::program::run()
}
