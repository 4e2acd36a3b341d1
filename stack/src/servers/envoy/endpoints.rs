//! The files that Envoy watches: which services there are, and in which order a region's clients are given to them.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::private_file;

/// The services behind the edge.
#[derive(Clone, Debug, Default)]
pub struct Upstreams {
    pub commands: Vec<Upstream>,
    pub queries: Vec<Upstream>,
}

/// One service. Its name is what answers say in `x-headwater-upstream`.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub name: String,
    pub region: String,
    pub address: SocketAddr,
}

/// From so small a share of healthy instances on, all commands may go to them: one writer among ten thousand.
const ALL_TO_THE_WRITER: u32 = 1_000_000;
/// Below 72 % of healthy replicas, a region gives a part of its clients to the next.
const QUERIES_TO_ONE_REGION: u32 = 140;

impl Upstreams {
    /// Writes the files into `folder`, each moved into its place as a whole. Every replica is in one of the regions.
    pub fn write(&self, folder: &Path, regions: &[String]) -> Result<()> {
        for Upstream { name, region, .. } in &self.queries {
            ensure!(regions.contains(region), "{name} is in {region}, which is no region of the edge");
        }
        let commands = [(String::new(), self.commands.iter().collect())];
        write(folder, "commands", ALL_TO_THE_WRITER, &commands)?;
        for region in regions {
            let levels: Vec<_> = by_nearness(region, regions)
                .map(|region| {
                    (region.clone(), self.queries.iter().filter(|it| it.region == *region).collect())
                })
                .collect();
            write(folder, &format!("queries-{region}"), QUERIES_TO_ONE_REGION, &levels)?;
        }
        Ok(())
    }
}

/// The region itself, then the others in the order in which they are given.
fn by_nearness<'a>(region: &'a String, regions: &'a [String]) -> impl Iterator<Item = &'a String> {
    std::iter::once(region).chain(regions.iter().filter(move |other| *other != region))
}

/// The first level is preferred to the second, and so on. One without upstreams is there all the same, because Envoy
/// wants priorities without gaps.
fn write(
    folder: &Path,
    cluster: &str,
    overprovisioning_factor: u32,
    levels: &[(String, Vec<&Upstream>)],
) -> Result<()> {
    let levels = levels.iter().enumerate().map(|(priority, (region, upstreams))| {
        json!({
            "priority": priority,
            "locality": { "region": region },
            "lb_endpoints": upstreams.iter().map(|upstream| endpoint(upstream)).collect::<Vec<_>>(),
        })
    });
    let file = json!({ "resources": [{
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster,
        "policy": { "overprovisioning_factor": overprovisioning_factor },
        "endpoints": levels.collect::<Vec<_>>(),
    }] });
    // JSON is YAML, too.
    private_file::replace(&folder.join(format!("{cluster}.yaml")), &serde_json::to_vec_pretty(&file)?)
}

fn endpoint(upstream: &Upstream) -> Value {
    let Upstream { name, address, .. } = upstream;
    let address = json!({ "address": address.ip().to_string(), "port_value": address.port() });
    json!({
        "endpoint": { "address": { "socket_address": address } },
        "metadata": { "filter_metadata": { "headwater": { "name": name } } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regions_own_replicas_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let replica = |name: &str, region: &str| Upstream {
            name: name.to_owned(),
            region: region.to_owned(),
            address: ([127, 0, 0, 1], 1).into(),
        };
        let queries = vec![replica("a", "eu"), replica("b", "us")];
        let upstreams = Upstreams { commands: vec![], queries };
        let regions = ["eu".to_owned(), "us".to_owned(), "ap".to_owned()];
        upstreams.write(folder.path(), &regions).unwrap();
        let text = std::fs::read(folder.path().join("queries-us.yaml")).unwrap();
        let file: Value = serde_json::from_slice(&text).unwrap();
        let levels = file["resources"][0]["endpoints"].as_array().unwrap();
        let regions: Vec<&str> =
            levels.iter().map(|level| level["locality"]["region"].as_str().unwrap()).collect();
        assert_eq!(regions, ["us", "eu", "ap"]);
        assert_eq!(levels[0]["lb_endpoints"][0]["metadata"]["filter_metadata"]["headwater"]["name"], "b");
        assert_eq!(levels[2]["priority"], 2);
    }
}
