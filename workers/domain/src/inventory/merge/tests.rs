//! Reading and merging: formats by their content, mistakes with their places, order that does not matter.

use proptest::prelude::*;

use super::super::{Names, Scope, Text, Texts, read, to_yaml};
use super::*;

fn texts(name: &str, text: &str) -> Texts {
    Texts { main: vec![Text { name: name.into(), text: text.into() }], beside: Vec::new() }
}

fn gather(files: &[(&str, &str)]) -> (Merged, Mistakes) {
    let mut mistakes = Mistakes::default();
    let files = files.iter().map(|(name, text)| texts(name, text));
    let sources: Vec<Source> = files.flat_map(|texts| read(&texts, &Names::default(), &mut mistakes)).collect();
    let merged = merge(&sources, &mut mistakes);
    (merged, mistakes)
}

/// The hosts of files in which nothing is wrong.
#[track_caller]
fn hosts(files: &[(&str, &str)]) -> Vec<Host> {
    let (merged, mistakes) = gather(files);
    assert!(mistakes.passable(), "{:#?}", mistakes.list());
    merged.hosts
}

/// Code, place and remedy of each mistake.
#[track_caller]
fn wrong(text: &str, expected: &[(&str, &str, &str)]) {
    let (_, mistakes) = gather(&[("f", text)]);
    let found: Vec<_> = mistakes.list().iter().map(|m| (m.code, m.at.as_str(), m.fix.as_str())).collect();
    assert_eq!(found, expected, "{text}\n{:#?}", mistakes.list());
}

const OWN: &str = "\
inventory: 1
defaults: {environment: prod, target: {user: patch}}
groups:
  web: {site: berlin, criticality: 4, tags: {Role: web}}
  edge: {exposed: true, site: hamburg}
hosts:
- web-2
- id: web-1
  names: web-1.example.org
  addresses: [10.0.0.1]
  groups: [web, edge]
  os: {id: debian, version: 12, arch: amd64}
  target: {host: 10.0.0.1, port: 2222, jump: [gate@bastion:22]}
  tags: {Patch Group: Web}
";

#[test]
fn our_own_yaml_lays_defaults_under_groups_under_hosts() {
    let hosts = hosts(&[("hosts.yaml", OWN)]);
    let web = serde_json::to_value(&hosts[0]).unwrap();
    let expected = serde_json::json!({
        "id": "web-1", "names": ["web-1.example.org"], "addresses": ["10.0.0.1"],
        "target": { "kind": "ssh", "host": "10.0.0.1", "port": 2222, "user": "patch", "jump": ["gate@bastion:22"] },
        "os": { "id": "debian", "version": "12", "arch": "amd64" }, "environment": "prod", "criticality": 4,
        "exposed": true, "site": "hamburg",
        "tags": { "Patch Group": "Web", "Role": "web", "group:edge": "", "group:web": "" },
    });
    assert_eq!(web, expected);
    assert_eq!(serde_json::to_value(&hosts[1].target).unwrap()["host"], "web-2");
    assert_eq!(hosts[0].groups().collect::<Vec<_>>(), ["edge", "web"]);
}

#[test]
fn what_is_wrong_in_our_own_yaml_is_told_with_line_and_remedy() {
    let tags = "remove it; what we have no key for goes under `tags`";
    wrong(
        "inventory: 1\nhosts:\n- id: a\n  enviroment: prod\n  zzz: 1\n",
        &[("E0812", "f:4", "write `environment`"), ("E0812", "f:5", tags)],
    );
    wrong("inventory: 2\nhosts: []\n", &[("E0814", "f:1", "write `inventory: 1`")]);
    wrong(
        "hosts:\n- id: a b\n- {names: x}\n- id: c\n  criticality: 9\n  addresses: 10.0.0.0/8\n",
        &[
            ("E0814", "f:2", "give the host another id"),
            ("E0813", "f:3", "give it one: `id: web-1`"),
            ("E0814", "f:5", "mend the value"),
            ("E0814", "f:6", "mend the address; names go under names"),
        ],
    );
    wrong("groups: {web: {}}\nhosts:\n- {id: a, groups: [wbe]}\n", &[("E0812", "f:3", "write `web`")]);
    wrong("hosts:\n- {id: a, target: {host: -oProxyCommand=x}}\n", &[("E0814", "f:2", "mend the value")]);
}

#[test]
fn one_host_stands_once_and_has_its_addresses_alone() {
    let fix = "remove one of the two, or mend what they share";
    wrong(
        "hosts:\n- id: a\n- id: b\n- id: a\n",
        &[("E0816", "f:4", fix), ("E0816", "host a", "mend the host, port or path of one, or remove it")],
    );
    wrong("hosts:\n- {id: a, addresses: 10.0.0.1}\n- {id: b, addresses: 10.0.0.1}\n", &[("E0816", "f:3", fix)]);
    wrong("hosts:\n- {id: a, names: B}\n- {id: b}\n", &[("E0816", "f:3", fix)]);
    let same =
        "hosts:\n- {id: a, target: {host: 127.0.0.1, port: 2201}}\n- {id: b, target: {host: 127.0.0.1, port: 2201}}\n";
    wrong(same, &[("E0816", "host b", "mend the host, port or path of one, or remove it")]);
    // Several hosts behind one address with ports of their own are usual.
    wrong(&same.replacen("2201", "2202", 1), &[]);
    // Two that a third source makes one.
    let aws = r#"{"InstanceInformationList": [{"InstanceId": "i-1", "ComputerName": "a", "IPAddress": "10.0.0.9"}]}"#;
    let (_, mistakes) = gather(&[("f", "hosts:\n- id: a\n- {id: b, addresses: 10.0.0.9}\n"), ("aws.json", aws)]);
    assert_eq!(mistakes.list()[0].code, "E0816", "{mistakes:#?}");
}

#[test]
fn csv_is_read_by_its_header_with_quotes_and_lines_inside() {
    let csv = "\u{feff}Hostname;IP Address;Env;Owner;tag:Patch Group;Rack\r\nweb-1;10.0.0.1 10.0.0.2;Production;\"Web; \"\"A\"\"\r\nteam\";Web;7\r\n";
    let (merged, mistakes) = gather(&[("cmdb.csv", csv)]);
    let host = &merged.hosts[0];
    assert_eq!((host.id.as_str(), host.addresses.len(), host.patch_group()), ("web-1", 2, Some("Web")));
    assert_eq!(
        mistakes.list().iter().map(|m| (m.code, m.at.as_str())).collect::<Vec<_>>(),
        [
            ("E0814", "cmdb.csv:2"), // a line break is no part of an owner
            ("E0827", "cmdb.csv:1"),
        ]
    );
    let fix = "add or remove cells; quote cells with separators";
    wrong("id,owner\na,x\nb\n,y\n", &[("E0810", "f:3", fix), ("E0813", "f:4", "fill the cell, or remove the row")]);
    wrong("id,enviroment\na,x\n", &[("E0827", "f:1", "write `environment`")]);
}

#[test]
fn sources_fill_each_other_by_rank_and_tell_what_they_overrule() {
    let own = "hosts:\n- {id: web-1, names: i-1, environment: prod, os: {id: debian, version: 11}}\n";
    let aws = r#"{"InstanceInformationList": [{"InstanceId": "i-1", "ComputerName": "ip-10-0-0-1.internal", "IPAddress": "10.0.0.1",
        "PlatformName": "Debian GNU/Linux", "PlatformVersion": "12"}]}"#;
    let tags = r#"{"Tags": [{"Key": "Environment", "ResourceId": "i-1", "ResourceType": "instance", "Value": "dev"},
        {"Key": "Patch Group", "ResourceId": "i-1", "ResourceType": "instance", "Value": "web"},
        {"Key": "Name", "ResourceId": "vol-1", "ResourceType": "volume", "Value": "x"}]}"#;
    let (merged, mistakes) = gather(&[("hosts.yaml", own), ("ssm.json", aws), ("tags.json", tags)]);
    assert_eq!(merged.hosts.len(), 1);
    let host = &merged.hosts[0];
    // People say what it is for, machines what it runs.
    assert_eq!((host.environment, host.os.as_ref().unwrap().version.as_deref()), (Some(Environment::Prod), Some("12")));
    assert_eq!((host.patch_group(), host.names.len()), (Some("web"), 2));
    let told: Vec<_> = mistakes.list().iter().map(|m| (m.level, m.code, m.at.as_str())).collect();
    let expected = [(Level::Note, "E0828", "hosts.yaml:2"), (Level::Note, "E0828", "tags.json: $.Tags[0]")];
    assert_eq!(told, expected, "{mistakes:#?}");
}

#[test]
fn equal_ranks_that_contradict_each_other_refuse_the_whole() {
    let (_, mistakes) =
        gather(&[("a.yaml", "hosts:\n- {id: a, site: x}\n"), ("b.yaml", "hosts:\n- {id: a, site: y}\n")]);
    assert!(!mistakes.passable());
    assert_eq!((mistakes.list()[0].code, mistakes.list()[0].at.as_str()), ("E0817", "b.yaml:2"));
}

#[test]
fn tags_that_a_source_lacks_or_has_otherwise_are_listed_for_it() {
    let own = "hosts:\n- {id: web-1, names: i-1, tags: {Patch Group: web, Owner: a}}\n";
    let ec2 = r#"{"Reservations": [{"Instances": [{"InstanceId": "i-1", "PrivateIpAddress": "10.0.0.1", "State": {"Name": "running"},
        "Tags": [{"Key": "Patch Group", "Value": "old"}, {"Key": "Name", "Value": "w"}]}]}]}"#;
    let (merged, _) = gather(&[("hosts.yaml", own), ("ec2.json", ec2)]);
    let patches: Vec<_> = merged
        .tag_patches
        .iter()
        .map(|p| (p.resource.as_str(), p.key.as_str(), p.value.as_str(), p.was.as_deref()))
        .collect();
    assert_eq!(patches, [("i-1", "Owner", "a", None), ("i-1", "Patch Group", "web", Some("old"))]);
}

#[test]
fn answers_of_aws_are_read_with_paths_and_never_cut() {
    let (_, mistakes) = gather(&[(
        "ssm.json",
        r#"{"InstanceInformationList": [{"InstanceId": "i-1", "PlatformName": "BeOS", "Colour": 1}], "NextToken": "x"}"#,
    )]);
    let told: Vec<_> = mistakes.list().iter().map(|m| (m.code, m.at.as_str())).collect();
    assert_eq!(
        told,
        [
            ("E0819", "ssm.json: $.NextToken"),
            ("E0827", "ssm.json: $.InstanceInformationList[0]"),
            ("E0827", "ssm.json: $.InstanceInformationList[0].PlatformName"),
            ("E0827", "ssm.json: $.InstanceInformationList[0].Colour"),
        ]
    );
    let several = r#"
{"TypeName": "AWS:InstanceInformation", "InstanceId": "mi-1", "SchemaVersion": "1.0", "CaptureTime": "2026-11-01T00:00:00Z",
 "Entries": [{"ComputerName": "db-1", "IpAddress": "10.0.0.7", "PlatformName": "Ubuntu", "PlatformVersion": "24.04", "InstanceStatus": "Active"}]}
{"TypeName": "AWS:Network", "InstanceId": "mi-1", "Entries": [{"Name": "eth0", "IPV4": "10.0.0.7", "IPV6": "fe80::1%eth0,2001:db8::7"}]}
{"TypeName": "AWS:Tag", "InstanceId": "mi-1", "Entries": [{"Key": "PatchGroup", "Value": "db"}]}"#;
    let host = &hosts(&[("entries.json", several)])[0];
    assert_eq!((host.id.as_str(), host.patch_group(), host.addresses.len()), ("mi-1", Some("db"), 3));
    assert_eq!(host.os.as_ref().unwrap().version.as_deref(), Some("24.04"));
}

#[test]
fn genuine_answers_of_systems_manager_are_read() {
    let root = std::env::var("PATCHLOOM_DATA")
        .unwrap_or_else(|_| format!("{}/../../../shared/data", env!("CARGO_MANIFEST_DIR")));
    let Ok(text) = std::fs::read_to_string(format!("{root}/aws/ssm-describe-instance-information-1.json")) else {
        println!("skipped: PATCHLOOM_DATA has no aws/ssm-describe-instance-information-1.json");
        return;
    };
    let host = &hosts(&[("ssm.json", &text)])[0];
    assert_eq!(host.addresses, ["192.0.2.0"]);
    assert_eq!(host.os.as_ref().map(|os| os.id.as_str()), Some("sles"));
}

#[test]
fn a_file_that_nobody_knows_is_refused_with_what_is_known() {
    wrong("colour: red\n", &[("E0815", "f:1", "begin our own format with `inventory: 1`; see docs/inventory.md")]);
    wrong(
        "#!/bin/sh\n",
        &[("E0815", "f:1", "let Ansible write it out: ansible-inventory -i THIS --list --yaml > hosts.yaml")],
    );
    wrong("{\"a\": \n", &[("E0810", "f:2", "paste the whole answer")]);
}

const INI: &str = "\
lone.example.org:2200   ; no comment in a host line begins so
[web]
web[01:03] ansible_user=deploy owner='Team Web'
[db]
db-[a:b] ansible_port=2222
me ansible_connection=local
win ansible_connection=winrm
[prod:children]
web
db
[prod:vars]
env=production
ansible_ssh_common_args='-o ProxyJump=gate@bastion'
patch_group=Prod
http_port=80
secret={{ vault_secret }}
[db:vars]
patch_group=Databases
";

#[test]
fn ansible_inventories_in_ini_become_hosts() {
    let ini = INI.replace("   ; no comment in a host line begins so", "");
    let mut mistakes = Mistakes::default();
    let mut files = texts("inv.ini", &ini);
    let beside = |scope, name: &str, text: &str| (scope, Text { name: name.into(), text: text.into() });
    files.beside.push(beside(Scope::Group("all".into()), "group_vars/all.yml", "site: berlin\ntags: {Cost: '7'}\n"));
    files.beside.push(beside(
        Scope::Group("web".into()),
        "group_vars/web.yml",
        "patch_group: Web\nsecret2: !vault |\n  x\n",
    ));
    files.beside.push(beside(Scope::Host("db-a".into()), "host_vars/db-a.yml", "criticality: 9\n"));
    files.beside.push(beside(Scope::Host("gone".into()), "host_vars/gone.yml", "a: 1\n"));
    let sources = read(&files, &Names::default(), &mut mistakes);
    let hosts = merge(&sources, &mut mistakes).hosts;
    let line = |host: &Host| {
        let way = serde_json::to_string(&host.target).unwrap();
        format!("{} {} {:?} {:?} {way}", host.id, host.patch_group().unwrap_or("-"), host.environment, host.site)
    };
    let told: Vec<String> = hosts.iter().map(line).collect();
    assert_eq!(
        told,
        [
            r#"db-a Databases Some(Prod) Some("berlin") {"kind":"ssh","host":"db-a","port":2222,"jump":["gate@bastion"]}"#,
            r#"db-b Databases Some(Prod) Some("berlin") {"kind":"ssh","host":"db-b","port":2222,"jump":["gate@bastion"]}"#,
            r#"lone.example.org - None Some("berlin") {"kind":"ssh","host":"lone.example.org","port":2200}"#,
            r#"me Databases Some(Prod) Some("berlin") {"kind":"local"}"#,
            r#"web01 Web Some(Prod) Some("berlin") {"kind":"ssh","host":"web01","user":"deploy","jump":["gate@bastion"]}"#,
            r#"web02 Web Some(Prod) Some("berlin") {"kind":"ssh","host":"web02","user":"deploy","jump":["gate@bastion"]}"#,
            r#"web03 Web Some(Prod) Some("berlin") {"kind":"ssh","host":"web03","user":"deploy","jump":["gate@bastion"]}"#,
        ]
    );
    assert_eq!(hosts[4].groups().collect::<Vec<_>>(), ["prod", "web"]);
    assert_eq!(hosts[4].owner.as_deref(), Some("Team Web"));
    let told: Vec<_> = mistakes.list().iter().map(|m| format!("{} {} {}", m.code, m.at, m.message)).collect();
    assert_eq!(
        told,
        [
            "E0814 host_vars/db-a.yml:1 criticality cannot be `9`",
            "E0827 host_vars/gone.yml:1 nothing in the inventory is called `gone`",
            "E0827 inv.ini:7 the host win is left out: it is reached by `winrm`",
            "E0827 group_vars/web.yml:2 the variable `secret2` of 3 hosts is not taken over",
            "E0827 inv.ini:15 the variable `http_port` of 6 hosts is not taken over",
            "E0827 inv.ini:16 the variable `secret` of 6 hosts is not taken over",
        ]
    );
}

#[test]
fn ansible_inventories_in_yaml_say_the_same() {
    let yaml = "all:\n  vars: {site: x}\n  children:\n    web:\n      hosts:\n        w[1:2]:\n          ansible_host: 10.0.0.1\n    low:\n      children: {web: {}}\n      vars: {site: y}\n  colour: red\n";
    let (merged, mistakes) = gather(&[("inv.yaml", yaml)]);
    // Both have one address: the range was meant for names only.
    let codes: Vec<_> = mistakes.list().iter().map(|m| (m.code, m.at.as_str())).collect();
    assert_eq!(codes, [("E0816", "host w2"), ("E0816", "inv.yaml:6"), ("E0812", "inv.yaml:11")]);
    assert!(merged.hosts.iter().all(|host| host.site.as_deref() == Some("y")));
    let (_, mistakes) = gather(&[("inv.yaml", "a: {children: {b: {children: {a: {}}}}}\n")]);
    assert_eq!(mistakes.list()[0].message, "the group `a` is below itself");
    for bad in ["w[3:1]", "w[1:200000]", "w[a:9]", "w[1", "w[1:2:0]"] {
        let (_, mistakes) = gather(&[("inv.ini", &format!("[web]\n{bad}\n"))]);
        assert!(!mistakes.passable(), "{bad}");
    }
}

fn any_host() -> impl Strategy<Value = (u16, String)> {
    let value = "[ -~]{0,12}".prop_map(|text| serde_json::Value::from(text).to_string());
    let fields = (
        0u16..30,
        proptest::option::of(1u8..=5),
        proptest::option::of("dev|test|prod"),
        proptest::option::of("[a-zß ]{1,8}[a-z]"),
        value,
    );
    fields.prop_map(|(number, criticality, environment, owner, tag)| {
        let mut text = format!(
            "- id: h{number}\n  addresses: [10.0.0.{number}]\n  tags: {{Any: {tag}}}\n  groups: [g{}]\n",
            number % 3
        );
        criticality.iter().for_each(|level| text.push_str(&format!("  criticality: {level}\n")));
        environment.iter().for_each(|name| text.push_str(&format!("  environment: {name}\n")));
        owner.iter().for_each(|name| text.push_str(&format!("  owner: \"{name}\"\n")));
        (number, text)
    })
}

fn document(hosts: impl IntoIterator<Item = (u16, String)>) -> String {
    let hosts: BTreeMap<u16, String> = hosts.into_iter().collect();
    format!("groups: {{g0: {{}}, g1: {{site: s}}, g2: {{}}}}\nhosts:\n{}", hosts.into_values().collect::<String>())
}

proptest! {
    #[test]
    fn what_is_exported_is_imported_as_the_same(list in proptest::collection::vec(any_host(), 1..20)) {
        let first = hosts(&[("a.yaml", &document(list))]);
        prop_assert_eq!(&hosts(&[("b.yaml", &to_yaml(&first))]), &first);
    }

    #[test]
    fn the_order_of_sources_does_not_matter(
        one in proptest::collection::vec(any_host(), 1..10),
        two in proptest::collection::vec(any_host(), 1..10),
        at in 0usize..6,
    ) {
        let csv: String = two.iter().map(|(number, _)| *number).collect::<BTreeSet<_>>().iter().map(|n| format!("h{n},10.0.0.{n},dev,{n}\n")).collect();
        let (one, two, csv) = (document(one), document(two), format!("id,ip,env,site\n{csv}"));
        let mut files = vec![("a.yaml", one.as_str()), ("b.yaml", two.as_str()), ("c.csv", csv.as_str())];
        let expected = gather(&files);
        files.swap(at % 3, at / 2);
        let found = gather(&files);
        // Where neither of two goes before the other, the whole is refused, in either order.
        prop_assert_eq!(&found.0, &expected.0);
        prop_assert_eq!(&found.1, &expected.1);
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in "[\\[\\]a-z0-9:{}=\"', \n#-]{0,200}") {
        drop(gather(&[("any", &text)]));
        drop(gather(&[("any", &format!("[web]\n{text}"))]));
        drop(gather(&[("any", &format!("id,site\n{text}"))]));
        drop(gather(&[("any", &format!("hosts:\n- {text}"))]));
    }
}

#[test]
fn a_hundred_thousand_hosts_are_read_merged_and_compared() {
    use super::super::{Inventory, Policy, diff_inventories};
    let (mut own, mut aws) = ("inventory: 1\nhosts:\n".to_owned(), Vec::new());
    for n in 0..100_000u32 {
        let address = format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255);
        own.push_str(&format!(
            "- id: host-{n}\n  names: [i-{n:08x}]\n  addresses: [{address}]\n  environment: prod\n  site: s{}\n  owner: team\n  \
             tags: {{Patch Group: g{}, Role: web}}\n",
            n % 50,
            n % 20
        ));
        aws.push(
            serde_json::json!({ "InstanceId": format!("i-{n:08x}"), "PingStatus": "Online", "PlatformName": "Ubuntu",
            "PlatformVersion": "24.04", "IPAddress": address, "ComputerName": format!("ip-{n}.internal") }),
        );
    }
    let aws = serde_json::json!({ "InstanceInformationList": aws }).to_string();
    let bytes = own.len() + aws.len();
    let begun = std::time::Instant::now();
    let hosts = hosts(&[("hosts.yaml", &own), ("ssm.json", &aws)]);
    let read = begun.elapsed();
    assert_eq!(hosts.len(), 100_000);
    let first = Inventory::desired(hosts, &Policy::default());
    let mut second = first.clone();
    second.hosts[7].site = Some("moved".into());
    let diff = diff_inventories(&first, &second);
    assert_eq!((diff.hosts.len(), diff.groups.len(), first.groups.len()), (1, 0, 20));
    println!("100,000 hosts twice, {bytes} bytes: read and merged in {read:?}, compared after {:?}", begun.elapsed());
}

#[test]
fn who_snapshots_a_host_from_outside_is_said_as_a_map_or_as_a_text_and_reads_back() {
    let own = "\
inventory: 1
groups: {cloud: {snapshot: ebs}}
hosts:
- {id: web-1, snapshot: {kind: libvirt, uri: 'qemu+ssh://hv-1/system', domain: web-1}}
- {id: web-2, snapshot: {kind: ebs, instance: i-0f00f008a2dcbefe2, region: eu-west-1, replace_root: true}}
- {id: web-3, groups: [cloud]}
";
    let csv = "id,snapshot\nweb-4,libvirt:db@qemu:///system\n";
    let found = hosts(&[("hosts.yaml", own), ("more.csv", csv)]);
    let said: Vec<String> = found.iter().map(|host| host.snapshot.as_ref().unwrap().to_string()).collect();
    let expected = [
        "libvirt:web-1@qemu+ssh://hv-1/system",
        "ebs:i-0f00f008a2dcbefe2@eu-west-1,replace-root",
        "ebs",
        "libvirt:db@qemu:///system",
    ];
    assert_eq!(said, expected);
    assert_eq!(hosts(&[("again.yaml", &to_yaml(&found))]), found);
    for bad in ["{kind: vmware}", "{kind: libvirt, uri: 'qemu+ext:///x?command=evil', domain: a}", "{uri: a}"] {
        let (_, mistakes) = gather(&[("f", &format!("inventory: 1\nhosts: [{{id: a, snapshot: {bad}}}]"))]);
        assert!(!mistakes.passable(), "{bad}");
    }
}
