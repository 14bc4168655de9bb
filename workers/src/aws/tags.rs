//! Tags of instances, written.

use std::collections::BTreeMap;

use super::ec2::check_instance;
use super::{Aws, Error};

/// The most instances in one request; AWS takes 1,000.
const INSTANCES_AT_ONCE: usize = 500;

/// What AWS takes, in characters.
const KEY_MAX: usize = 127;
const VALUE_MAX: usize = 256;

/// A tag that an instance is to have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct InstanceTag {
    /// The id of the instance, `i-…`.
    pub instance: String,
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// Its value until now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
}

impl Aws {
    /// Gives instances tags, each in the place of what an instance has under its key. The same again changes nothing; where it
    /// fails, some may be written.
    ///
    /// # Errors
    /// [`Error::Word`] before anything is written, where AWS would not take one of them.
    pub async fn write_tags(&self, tags: &[InstanceTag]) -> Result<(), Error> {
        let mut alike: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for tag in tags {
            check(tag)?;
            alike.entry((&tag.key, &tag.value)).or_default().push(&tag.instance);
        }
        for ((key, value), instances) in alike {
            for some in instances.chunks(INSTANCES_AT_ONCE) {
                let mut wanted =
                    vec![("Tag.1.Key".to_owned(), key.to_owned()), ("Tag.1.Value".to_owned(), value.to_owned())];
                let name = |at: usize| format!("ResourceId.{}", at + 1);
                wanted.extend(some.iter().enumerate().map(|(at, &id)| (name(at), id.to_owned())));
                self.ask_ec2("ec2:CreateTags", &wanted, true).await?;
            }
        }
        Ok(())
    }
}

fn check(tag: &InstanceTag) -> Result<(), Error> {
    check_instance(&tag.instance)?;
    let reserved = tag.key.get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case("aws:"));
    if reserved || tag.key.is_empty() || tag.key.chars().count() > KEY_MAX {
        return Err(Error::Word { what: "key of a tag that AWS lets us write", value: tag.key.clone() });
    }
    if tag.value.chars().count() > VALUE_MAX {
        return Err(Error::Word { what: "value of a tag that AWS takes", value: tag.value.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_aws_would_not_take_is_refused_before_it_is_asked() {
        let tag = |instance: &str, key: &str, value: &str| InstanceTag {
            instance: instance.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
            was: None,
        };
        let good = "i-0f00f008a2dcbefe2";
        for fine in [tag(good, "Patch Group", ""), tag(good, "aw", "x"), tag(good, "ä", &"ä".repeat(VALUE_MAX))] {
            assert!(check(&fine).is_ok(), "{fine:?}");
        }
        for bad in [
            tag("web-1", "Patch Group", "web"),
            tag(good, "", "web"),
            tag(good, "AWS:autoscaling", "web"),
            tag(good, &"k".repeat(KEY_MAX + 1), "web"),
            tag(good, "Patch Group", &"v".repeat(VALUE_MAX + 1)),
        ] {
            assert_eq!(check(&bad).unwrap_err().code(), "E0965", "{bad:?}");
        }
    }
}
