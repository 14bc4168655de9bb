//! What libvirt says of a domain and of its snapshots, in its XML. Asks nobody.

use std::collections::BTreeMap;

use roxmltree::{Document, Node};

/// A domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Domain {
    /// It is the same machine as long as this is.
    pub(super) uuid: String,
    /// What a snapshot of its memory takes at most.
    pub(super) memory_bytes: u64,
    /// The disks that it can write to, in their order.
    pub(super) disks: Vec<DomainDisk>,
}

/// A disk of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DomainDisk {
    /// `vda`.
    pub(super) target: String,
    /// The file, device or volume that holds it.
    pub(super) source: String,
    /// `qcow2`, `raw` …
    pub(super) format: String,
    /// Whether it is a file, as the hypervisor sees it.
    pub(super) is_file: bool,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) name: String,
    /// State of the domain in it: `running`.
    pub(super) state: String,
    /// Where its memory lies: `internal`, `external`, `no`.
    pub(super) memory: String,
    /// Where the disks lie, by their targets.
    pub(super) disks: BTreeMap<String, String>,
    /// The domain as it was.
    pub(super) domain: Domain,
}

/// Reads what `virsh dumpxml` prints.
pub(super) fn domain(text: &str) -> Result<Domain, String> {
    let document = Document::parse(text).map_err(|error| error.to_string())?;
    of_node(document.root_element())
}

/// Reads what `virsh snapshot-dumpxml` prints.
pub(super) fn kept(text: &str) -> Result<Kept, String> {
    let document = Document::parse(text).map_err(|error| error.to_string())?;
    let root = document.root_element();
    let said = |name: &str| child(root, name).and_then(|node| node.text()).unwrap_or_default().to_owned();
    let memory = child(root, "memory").and_then(|node| node.attribute("snapshot")).unwrap_or("no");
    let disks = child(root, "disks").into_iter().flat_map(|node| node.children());
    let place = |disk: Node<'_, '_>| Some((disk.attribute("name")?.to_owned(), disk.attribute("snapshot")?.to_owned()));
    Ok(Kept {
        name: said("name"),
        state: said("state"),
        memory: memory.to_owned(),
        disks: disks.filter(|node| node.has_tag_name("disk")).filter_map(place).collect(),
        domain: of_node(child(root, "domain").ok_or("it does not tell its domain")?)?,
    })
}

fn of_node(node: Node<'_, '_>) -> Result<Domain, String> {
    let uuid = child(node, "uuid").and_then(|uuid| uuid.text()).ok_or("it has no UUID")?;
    let memory = child(node, "memory").ok_or("it has no memory")?;
    let unit: u64 = match memory.attribute("unit") {
        None | Some("KiB" | "k") => 1 << 10,
        Some("b" | "bytes") => 1,
        Some("MiB" | "M") => 1 << 20,
        Some("GiB" | "G") => 1 << 30,
        Some(other) => return Err(format!("its memory is told in {other}")),
    };
    let memory: u64 = memory.text().and_then(|text| text.trim().parse().ok()).ok_or("its memory is no number")?;
    let devices = child(node, "devices").into_iter().flat_map(|node| node.children());
    let disks = devices.filter(|node| node.has_tag_name("disk") && is_writable(*node)).filter_map(disk).collect();
    Ok(Domain { uuid: uuid.trim().to_owned(), memory_bytes: memory.saturating_mul(unit), disks })
}

/// Whether the domain can write to it: CDs, floppies and what is read-only stay as they are.
fn is_writable(node: Node<'_, '_>) -> bool {
    matches!(node.attribute("device"), None | Some("disk" | "lun")) && child(node, "readonly").is_none()
}

fn disk(node: Node<'_, '_>) -> Option<DomainDisk> {
    let source = child(node, "source")?;
    let lies_in = ["file", "dev", "name", "volume"].into_iter().find_map(|name| source.attribute(name))?;
    Some(DomainDisk {
        target: child(node, "target")?.attribute("dev")?.to_owned(),
        source: lies_in.to_owned(),
        format: child(node, "driver").and_then(|driver| driver.attribute("type")).unwrap_or("raw").to_owned(),
        is_file: node.attribute("type") == Some("file"),
    })
}

fn child<'a, 'd>(node: Node<'a, 'd>, name: &str) -> Option<Node<'a, 'd>> {
    node.children().find(|child| child.has_tag_name(name))
}
