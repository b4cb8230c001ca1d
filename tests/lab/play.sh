#!/bin/bash
# play.sh SCENARIO: one scenario of server_scenario, inside the guest; SMBDIRECT_BIN_DIR has it and the daemons.
exec "$SMBDIRECT_BIN_DIR/server_scenario" "$@"
