//! The hosts that AWS knows, as the texts that the inventory reads: what the aws command line would print, and how they are reached.

use patchloom_domain::inventory::to_yaml;
use patchloom_domain::{Host, SsmTarget, Target};
use serde_json::Value;

use super::{Aws, Error};

impl Aws {
    /// The hosts of EC2 and of Systems Manager in this region: names of files, and what stands in them.
    ///
    /// Whoever has an agent that answers is reached through Systems Manager.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn inventory(&self) -> Result<Vec<(String, String)>, Error> {
        let region = self.region();
        let managed = self.instance_information().await?;
        let hosts = reached(&managed, region);
        let answers = [
            ("ec2", self.instances().await?),
            ("ssm", managed),
            ("ssm-network", self.inventory_of_all("AWS:Network").await?),
        ];
        let text = |value: &Value| format!("{value:#}\n");
        let mut files: Vec<(String, String)> =
            answers.iter().map(|(name, answer)| (format!("{region}-{name}.json"), text(answer))).collect();
        files.push((format!("{region}-reached.yaml"), to_yaml(&hosts)));
        Ok(files)
    }
}

fn reached(managed: &Value, region: &str) -> Vec<Host> {
    let rows = managed["InstanceInformationList"].as_array().map(Vec::as_slice).unwrap_or_default();
    let online = rows.iter().filter(|row| row["PingStatus"] == "Online");
    let ids = online.filter_map(|row| row["InstanceId"].as_str());
    let host = |id: &str| Host {
        id: id.to_owned(),
        target: Target::Ssm(SsmTarget { instance: id.to_owned(), region: Some(region.to_owned()) }),
        names: Vec::new(),
        addresses: Vec::new(),
        os: None,
        environment: None,
        criticality: None,
        exposed: None,
        owner: None,
        business_unit: None,
        site: None,
        relay: None,
        device_class: None,
        cluster: None,
        snapshot: None,
        tags: std::collections::BTreeMap::new(),
    };
    ids.map(host).collect()
}
