//! What a configuration may say, what each wrong line is answered with, and that no text makes the
//! parser panic.

mod wrong_lines;

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::syntax::normalized;
use super::*;

const SHARE: &str = "[data]\npath = /srv/data\n";

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(Path::new("smb.conf"), text)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// The one problem of a text, with its file and line.
fn problem(text: &str) -> String {
    let errors = parse(text).expect_err(text);
    assert_eq!(errors.problems.len(), 1, "{errors}");
    errors.to_string()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn every_parameter_has_help_a_default_and_an_example_that_works() {
    for parameter in parameter_list() {
        let name = parameter.name();
        let (default, example, help) = parameter.describe();
        assert!(help.len() > 10 && !help.ends_with('.'), "{name}: {help:?}");
        for value in [default, example] {
            let section = match parameter.scope() {
                Scope::Global => format!("[global]\n{name} = {value}\n"),
                Scope::Both => format!("[global]\n{name} = {value}\n{SHARE}{name} = {value}\n"),
                Scope::Share if name == "path" => format!("[data]\n{name} = {value}\n"),
                Scope::Share => format!("{SHARE}{name} = {value}\n"),
            };
            // The one parameter that is no use alone.
            let companion = if name == "bind interfaces only" {
                "interfaces = lo\n"
            } else {
                ""
            };
            good(&section.replace("[global]\n", &format!("[global]\n{companion}")));
        }
    }
}

#[test]
fn no_two_parameters_share_a_name() {
    let mut names: Vec<String> = parameter_list()
        // What it says in [global] is another parameter's.
        .filter(|parameter| parameter.name() != "smb encrypt")
        .flat_map(|parameter| parameter.names())
        .map(normalized)
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn encryption_is_a_sessions_in_global_and_a_shares_in_a_share() {
    for name in ["smb encrypt", "server smb encrypt"] {
        let config = good(&format!("[global]\n{name} = required\n{SHARE}"));
        assert_eq!(config.global.server_smb_encrypt, ServerEncryption::Required);
        assert_eq!(config.shares[0].smb_encrypt, ServerEncryption::IfRequired);
        let config = good(&format!("{SHARE}{name} = required\n"));
        assert_eq!(
            config.global.server_smb_encrypt,
            ServerEncryption::IfRequired
        );
        assert_eq!(config.shares[0].smb_encrypt, ServerEncryption::Required);
    }
}

#[test]
fn hosts_of_global_are_for_the_server_and_the_default_of_shares() {
    let config =
        good("[global]\nhosts allow = 10.\n[a]\npath = /a\n[b]\npath = /b\nhosts allow = 10.9.\n");
    assert_eq!(config.hosts_allow.len(), 1);
    assert_eq!(config.shares[0].hosts_allow, config.hosts_allow);
    assert_ne!(config.shares[1].hosts_allow, config.hosts_allow);
    assert_eq!(good(&super::report::settings(&config)), config);
}

#[test]
fn what_is_printed_reads_back_as_the_same_configuration() {
    let mut text = String::from("[global]\n");
    let mut share = String::from("[data]\n");
    for parameter in parameter_list() {
        let (_, example, _) = parameter.describe();
        let line = format!("{} = {example}\n", parameter.name());
        if parameter.scope() == Scope::Global {
            &mut text
        } else {
            &mut share
        }
        .push_str(&line);
    }
    let config = good(&(text + &share));
    assert_eq!(good(&super::report::settings(&config)), config);
}

#[test]
fn names_differ_neither_by_blanks_nor_by_case() {
    for key in ["read only", "READONLY", "Read  Only", "readonly"] {
        assert!(
            !good(&format!("{SHARE}{key} = no\n")).shares[0].read_only,
            "{key}"
        );
    }
    for key in ["writeable", "writable", "write ok", "WriteOk"] {
        assert!(
            !good(&format!("{SHARE}{key} = yes\n")).shares[0].read_only,
            "{key}"
        );
    }
}

#[test]
fn comments_are_skipped_and_lines_continued() {
    let config = good(
        "# comment = 1\n ; workgroup = NO\nworkgroup = \\\n  OFFICE\n[data]\n  path = /srv/%S\n  valid users = alice, \\\n    @staff\n",
    );
    assert_eq!(config.global.workgroup, "OFFICE");
    assert_eq!(config.shares[0].path, Path::new("/srv/data"));
    assert_eq!(config.shares[0].valid_users.len(), 2);
}

#[test]
fn a_line_after_a_continued_one_keeps_its_number() {
    let text = "[global]\nworkgroup = \\\n OFFICE\ndeadtime = soon\n";
    assert!(problem(text).starts_with("smb.conf:4: deadtime"));
}

#[test]
fn shares_take_their_defaults_from_global_wherever_it_stands() {
    let config =
        good("[one]\npath=/1\n[global]\nread only = no\n[two]\npath=/2\nread only = yes\n");
    assert!(!config.shares[0].read_only);
    assert!(config.shares[1].read_only);
}

#[test]
fn a_share_is_found_whatever_the_letters_case_unless_switched_off() {
    let config = good(&format!("{SHARE}[off]\npath = /o\navailable = no\n"));
    assert_eq!(config.share("DATA").unwrap().name, "data");
    assert!(config.share("off").is_none());
    assert!(config.share("other").is_none());
}

#[test]
fn all_problems_of_a_file_are_told_in_the_order_of_its_lines() {
    let errors = parse("[a]\nread only = 5\n[global]\nworkgruop = X\nnonsense\n").unwrap_err();
    let lines: Vec<_> = errors.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [Some(1), Some(2), Some(4), Some(5)]);
    assert_eq!(errors.to_string().lines().count(), 4);
}

#[test]
fn problems_beyond_a_hundred_are_counted() {
    let errors = parse(&"nonsense\n".repeat(130)).unwrap_err();
    assert_eq!((errors.problems.len(), errors.omitted), (100, 30));
    assert!(errors.to_string().ends_with("and 30 more"));
}

#[test]
fn transports_are_tcp_and_rdma_until_listed() {
    let transports = |text: &str| {
        good(&format!("server smb transports = {text}\n"))
            .global
            .server_smb_transports
    };
    assert_eq!(transports("").tcp_ports(), [445]);
    assert_eq!(transports("").rdma_ports(), [None]);
    assert!(!transports("").names_rdma());
    assert_eq!(transports("tcp").rdma_ports(), []);
    assert_eq!(transports("rdma").tcp_ports(), [0; 0]);
    assert_eq!(
        transports("tcp:445, tcp:4455 RDMA:445").tcp_ports(),
        [445, 4455]
    );
    assert_eq!(transports("tcp, rdma:5445").rdma_ports(), [Some(5445)]);
    assert!(transports("rdma").names_rdma());
    assert_eq!(transports("4450").tcp_ports(), [4450]);
}

#[test]
fn interfaces_take_all_of_sambas_forms() {
    let config = good(
        "interfaces = eth* 10.0.0.1 10.1.0.0/16 10.2.0.9/255.255.255.0 fd00::/64 \\\n \"192.168.0.1;speed=100000000000,capability=RSS,capability=RDMA,if_index=7\"\n",
    );
    let specs = &config.global.interfaces;
    assert_eq!(specs.len(), 6);
    let matches = |index: usize, name, address| specs[index].pattern.matches(name, ip(address));
    assert!(matches(0, "eth12", "1.2.3.4") && !matches(0, "beth1", "1.2.3.4"));
    assert!(matches(1, "x", "10.0.0.1") && !matches(1, "x", "10.0.0.2"));
    assert!(matches(2, "x", "10.1.255.255") && !matches(2, "x", "10.2.0.0"));
    assert!(matches(3, "x", "10.2.0.77") && !matches(3, "x", "10.2.1.77"));
    assert!(matches(4, "x", "fd00::5") && !matches(4, "x", "fd00:0:0:1::5"));
    let last = &specs[5];
    assert_eq!(
        (last.speed, last.if_index, last.rss, last.rdma),
        (Some(100_000_000_000), Some(7), true, true)
    );
}

#[test]
fn wildcards_match_like_a_shells() {
    for (pattern, name, expected) in [
        ("*", "", true),
        ("*", "eth0", true),
        ("eth?", "eth0", true),
        ("eth?", "eth", false),
        ("e*0", "eth10", true),
        ("e*0", "eth01", false),
        ("*th*1*", "eth01", true),
        ("eth0", "eth01", false),
    ] {
        let pattern = InterfacePattern::Name(pattern.into());
        assert_eq!(
            pattern.matches(name, ip("1.1.1.1")),
            expected,
            "{pattern} {name}"
        );
    }
}

#[test]
fn hosts_allow_goes_before_hosts_deny() {
    let admits = |lists: &str, peer: &str| {
        let share = good(&format!("{SHARE}{lists}\n")).shares[0].clone();
        hosts_admit(&share.hosts_allow, &share.hosts_deny, ip(peer))
    };
    assert!(admits("", "10.0.0.1"));
    assert!(admits("hosts allow = 10.0.", "10.0.255.1"));
    assert!(!admits("hosts allow = 10.0.", "10.1.0.1"));
    assert!(!admits("hosts deny = ALL", "10.0.0.1"));
    assert!(admits("hosts deny = 10.0.0.2", "10.0.0.1"));
    assert!(admits(
        "hosts allow = 10.0.0.1\nhosts deny = ALL",
        "10.0.0.1"
    ));
    assert!(!admits(
        "hosts allow = 10.0.0.1\nhosts deny = ALL",
        "10.0.0.2"
    ));
    assert!(admits("hosts allow = 10.0.0.0/24", "::ffff:10.0.0.9"));
    assert!(!admits("hosts allow = fd00::/64", "10.0.0.9"));
}

#[test]
fn a_share_gives_the_right_its_lists_say() {
    let right = |lists: &str, user: &str| {
        let share = good(&format!("{SHARE}{lists}\n")).shares[0].clone();
        let is_account = |name: &str| name == "EXAMPLE\\ann" && user == "ann";
        share.right_of(user, is_account, |group| group == "staff" && user == "sam")
    };
    use ShareRight::{ReadOnly, ReadWrite};
    assert_eq!(right("", "ann"), Some(ReadOnly));
    assert_eq!(right("read only = no", "ann"), Some(ReadWrite));
    assert_eq!(right("valid users = Ann", "ann"), Some(ReadOnly));
    assert_eq!(right("valid users = bob", "ann"), None);
    assert_eq!(right("valid users = EXAMPLE\\ann", "ann"), Some(ReadOnly));
    assert_eq!(right("valid users = EXAMPLE\\ann", "bob"), None);
    assert_eq!(right("invalid users = EXAMPLE\\ann", "ann"), None);
    assert_eq!(right("valid users = @staff", "sam"), Some(ReadOnly));
    assert_eq!(right("valid users = @staff", "staff"), None);
    assert_eq!(
        right("invalid users = +staff\nvalid users = sam", "sam"),
        None
    );
    assert_eq!(right("write list = ann", "ann"), Some(ReadWrite));
    assert_eq!(
        right("read only = no\nread list = ann", "ann"),
        Some(ReadOnly)
    );
    assert_eq!(
        right("read list = ann\nwrite list = ann", "ann"),
        Some(ReadWrite)
    );
}

#[test]
fn sizes_take_a_unit() {
    let config =
        good("rdma memory budget = 2G\nrdma memory per client = 65536k\nsmb2 max read = 1m\n");
    assert_eq!(config.rdma.memory_budget, 2 << 30);
    assert_eq!(config.rdma.memory_per_client, 64 << 20);
    assert_eq!(config.global.smb2_max_read, 1 << 20);
}

#[test]
fn the_command_line_makes_writable_shares_and_is_checked_like_a_file() {
    let parts = |shares: Vec<(String, PathBuf)>| {
        Config::from_parts(Global::default(), RdmaSettings::default(), shares)
    };
    let config = parts(vec![("data".into(), "/srv/data".into())]).unwrap();
    assert!(!config.share("data").unwrap().read_only);
    let wrong = vec![
        ("a/b".into(), "/x".into()),
        ("data".into(), "relative".into()),
    ];
    let errors = parts(wrong).unwrap_err();
    assert_eq!(errors.problems.len(), 2, "{errors}");
}

#[test]
fn a_file_that_is_missing_or_not_text_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("smb.conf");
    let errors = Config::load(&path).unwrap_err().to_string();
    assert!(
        errors.contains("smb.conf: No such file") && errors.contains("--config"),
        "{errors}"
    );
    std::fs::write(&path, b"workgroup = A\nserver string = \xFF\n").unwrap();
    let errors = Config::load(&path).unwrap_err().to_string();
    assert!(errors.contains("smb.conf:2: not UTF-8"), "{errors}");
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    let errors = Config::load(&path).unwrap_err().to_string();
    assert!(errors.contains("longer than 1 MiB"), "{errors}");
}

#[test]
fn check_config_prints_what_differs_and_warns_of_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("smb.conf");
    let users = directory.path().join("users");
    std::fs::write(&users, "").unwrap();
    std::fs::set_permissions(&users, std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = format!(
        "server signing = mandatory\nworkgroup = WORKGROUP\npassdb file = {}\n[data]\npath = {}/none\nwritable = yes\n",
        users.display(),
        directory.path().display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let report = check_config(&path);
    assert_eq!(report.exit_code, 0, "{}", report.text);
    assert!(report.text.contains("\tserver signing = mandatory\n"));
    assert!(!report.text.contains("workgroup"));
    assert!(report.text.contains("\tread only = no\n"));
    assert!(
        report
            .text
            .contains("serves: TCP port 445; RDMA on every device there is\n")
    );
    assert!(report.text.contains("warning: share [data]: path") && report.text.contains("mkdir"));
    assert!(report.text.contains("warning: user file") && report.text.contains("chmod 600"));
    assert!(
        report
            .text
            .ends_with("check-config: errors=0 warnings=2 shares=1\n")
    );
}

#[test]
fn check_config_says_what_listens_and_that_others_could_change_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("smb.conf");
    std::fs::write(&path, "smb ports = 4450\n[data]\npath = /\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let report = check_config(&path);
    assert!(
        report.text.contains("serves: TCP port 4450; no RDMA\n"),
        "{}",
        report.text
    );
    assert!(report.text.contains("run `chmod go-w "), "{}", report.text);
}

#[test]
fn every_parameter_is_described() {
    let text = describe_parameters();
    for name in parameter_list().flat_map(|parameter| parameter.names()) {
        assert!(text.contains(name), "{name}");
    }
}

#[test]
fn check_config_fails_on_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("smb.conf");
    std::fs::write(&path, "nonsense\n").unwrap();
    let report = check_config(&path);
    assert_eq!(report.exit_code, 1);
    assert!(
        report.text.contains("smb.conf:1: \"nonsense\""),
        "{}",
        report.text
    );
    assert!(
        report
            .text
            .ends_with("check-config: errors=1 warnings=0 shares=0\n")
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_lines_make_the_parser_panic(lines in proptest::collection::vec("[\\[\\]a-z =;#%\\\\\"0-9/.,:@\n]{0,40}", 0..8)) {
        let _ = parse(&lines.join("\n"));
    }

    #[test]
    fn no_value_makes_a_parameter_panic(index in 0usize..200, value in "[a-zA-Z0-9 \"/.,;:%@=*+-]{0,40}|\\PC{0,20}") {
        let parameters: Vec<_> = parameter_list().collect();
        let parameter = parameters[index % parameters.len()];
        let _ = parse(&format!("{}={value}\n[a]\npath=/a\n{}={value}\n", parameter.name(), parameter.name()));
    }
}
