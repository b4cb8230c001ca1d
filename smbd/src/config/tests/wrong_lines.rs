//! A wrong line is answered with its place, what was read and what was wanted.

use super::problem;

#[test]
fn each_wrong_line_is_named_with_what_is_allowed() {
    for (text, expected) in [
        (
            "workgruop = X",
            "unknown parameter \"workgruop\"; did you mean \"workgroup\"?",
        ),
        (
            "winbind separator = +",
            "unknown parameter \"winbind separator\"; `smbd check-config --list`",
        ),
        ("path = /x", "\"path\" belongs in a share's section"),
        (
            "[a]\npath = /x\nworkgroup = X",
            "\"workgroup\" belongs in [global], not in share [a]",
        ),
        (
            "[a]\npath = /x\nread only = maybe",
            "read only = \"maybe\": allowed are yes, no",
        ),
        (
            "[a]\npath = /x\nwritable = maybe",
            "writable = \"maybe\": allowed are yes, no",
        ),
        ("[a]\ncomment = x", "share [a] has no path"),
        (
            "[a]\npath = x",
            "path = \"x\": allowed is a path that starts with /",
        ),
        ("[a]\npath = /home/%U", "\"%U\" is not replaced here"),
        (
            "[a]\npath = /x\ncreate mask = 888",
            "create mask = \"888\": allowed are permission bits",
        ),
        ("[a]\npath = /x\nvalid users = @", "\"@\" names nobody"),
        (
            "[a]\npath = /x\nvalid users = \"a",
            "a quote is opened and not closed",
        ),
        (
            "[a]\npath = /x\nhosts allow = example.org",
            "names are not looked up",
        ),
        ("[a]\npath = /x\nhosts allow = 10.0.0.0/33", "is no network"),
        (
            "[a]\npath = /x\nhosts allow = 10.0.0.0/255.0.255.0",
            "is no network",
        ),
        (
            "[a]\npath = /x\ncase sensitive = perhaps",
            "allowed are auto, yes and no",
        ),
        (
            "[a]\npath = /x\nforce user = a b",
            "allowed is one account's name or number",
        ),
        (
            "[a]\npath=/1\n[A]\npath=/2",
            "share [A] stands here a second time",
        ),
        ("[IPC$]\npath=/1", "share IPC$ is always there"),
        ("[homes]\npath=/1", "[homes] is a special section of Samba"),
        ("[a/b]\npath=/1", "share name \"a/b\" can't be used"),
        ("[a", "\"[a\" is no section"),
        (
            "words",
            "\"words\" is neither a [section] nor a `name = value`",
        ),
        ("= x", "has no name before its ="),
        (
            "deadtime = 1\ndead time = 2",
            "\"dead time\" is set a second time; line 1 has the first",
        ),
        ("server min protocol = SMB1", "allowed are SMB2_02"),
        ("server min protocol = NT1", "allowed are SMB2_02"),
        (
            "server min protocol = SMB3\nserver max protocol = SMB2",
            "SMB3_11 is above server max protocol SMB2_10",
        ),
        (
            "server signing = perhaps",
            "allowed are default, auto, mandatory and disabled",
        ),
        (
            "server smb encrypt = maybe",
            "server smb encrypt = \"maybe\": allowed are off, if_required",
        ),
        (
            "[a]\npath = /x\nsmb encrypt = maybe",
            "smb encrypt = \"maybe\": allowed are off, if_required",
        ),
        ("restrict anonymous = 3", "allowed is a number from 0 to 2"),
        (
            "failed logon delay = never",
            "allowed is a number from 0 to 60",
        ),
        (
            "ntlm auth = ntlmv1-permitted",
            "NTLMv1 and LM are never accepted",
        ),
        (
            "ntlm auth = disabled",
            "lets nobody in without Kerberos; set kerberos method",
        ),
        (
            "kerberos method = keytab",
            "allowed are secrets only (no Kerberos), system keytab",
        ),
        (
            "kerberos method = dedicated keytab",
            "dedicated keytab file = /… need each other",
        ),
        (
            "dedicated keytab file = /etc/keytab",
            "dedicated keytab file = /… need each other",
        ),
        (
            "dedicated keytab file = keytab",
            "allowed is a path that starts with /",
        ),
        ("realm = EXAMPLE ORG", "allowed is a realm such as"),
        (
            "server name hardening = perhaps",
            "allowed are off, if_present and required",
        ),
        ("netbios aliases = a/b", "allowed are names of hosts"),
        ("server smb transports = quic", "allowed are tcp and rdma"),
        ("server smb transports = tcp:0", "allowed are tcp and rdma"),
        (
            "server smb transports = tcp, tcp",
            "\"tcp\" stands there twice",
        ),
        ("smb ports = 445 139", "port 139 is NetBIOS"),
        (
            "interfaces = eth0;speed=1",
            "\"speed=1\" stands outside quotes",
        ),
        ("interfaces = \"eth0;speed=fast\"", "\"fast\" is no speed"),
        (
            "interfaces = \"eth0;capability=MAGIC\"",
            "capability=RSS, capability=RDMA",
        ),
        (
            "interfaces = an-interface-with-a-long-name",
            "allowed are an interface's name",
        ),
        ("bind interfaces only = yes", "needs interfaces"),
        (
            "map to guest = bad password",
            "allowed are never and bad user",
        ),
        ("netbios name = much-too-long-a-name", "at most 15 letters"),
        ("server string = %h", "\"%h\" is not replaced here"),
        (
            "smb2 max credits = 1",
            "smb2 max credits = \"1\": allowed is a number from 128 to 32768",
        ),
        ("smb2 max read = 1X", "also written with K, M, G or T"),
        (
            "smb2 max read = 99999999999999T",
            "also written with K, M, G or T",
        ),
        (
            "log level = loud",
            "allowed are error, warn, info, debug and trace",
        ),
        ("rdma devices =", "allowed are all, or names of devices"),
        (
            "rdma memory budget = 16M\nrdma memory per client = 17M",
            "is more than rdma memory budget",
        ),
        ("broker user = a\nsmbdirectd user = a", "must differ"),
        ("private dir = here", "allowed is a path that starts with /"),
        ("passdb file = here", "allowed is a path that starts with /"),
    ] {
        let found = problem(text);
        assert!(found.starts_with("smb.conf:"), "{text}: {found}");
        assert!(found.contains(expected), "{text}: {found}");
    }
}
