#!/bin/bash
# play.sh SCENARIO: one scenario of server_scenario, inside the guest; SMBDIRECT_BIN_DIR has it and the daemons.
# A scenario whose client, the guest's kernel, stands still can't end: a thread of its waits there for good. It says so
# by SIGUSR1, and this ends without it.
trap 'exit 1' USR1
"$SMBDIRECT_BIN_DIR/server_scenario" "$@" &
wait $!
