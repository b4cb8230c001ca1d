//! smbdirectd dies at each of twelve points, once. `./x soak gateway-deaths` kills it 25 times at each.

use std::time::Duration;

use tests::handoff::gateway_deaths;

/// On a machine that runs other tests beside this one.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn when_smbdirectd_dies_its_channels_end_and_come_back_and_the_clients_tcp_channel_carries_on() {
    if let Some(stage) = gateway_deaths::stage() {
        let rounds = gateway_deaths::play(&stage, 1);
        stage.stop();
        assert_eq!(rounds.times, 12);
        assert!(rounds.back < PATIENCE && rounds.tcp < PATIENCE, "{rounds}");
    }
}
