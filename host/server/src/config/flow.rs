//! `flow`: limits on runs in flight and on creations a second, in general and of one cluster, tenant or place.

use penstock_model::flow::{FlowLimits, Limit};

use super::read::Sections;
use super::reader::{Item, Reader};

/// The general limits. Those of one cluster, tenant or place are read where it is.
pub(super) fn read(sections: &Sections<'_>) -> Option<FlowLimits> {
    match sections.single("flow", general)? {
        Some(limits) => Some(limits),
        None => Some(FlowLimits::default()),
    }
}

fn general(item: Item<'_>) -> Option<FlowLimits> {
    let reader = item.map("`flow`")?;
    let by_default = FlowLimits::default();
    let limit =
        |key: &'static str, default: Limit| reader.or(key, default, |item| limit(item, default));
    let cluster = limit("cluster", by_default.cluster);
    let place = limit("place", by_default.place);
    let tenant = limit("tenant", by_default.tenant);
    let project = limit("project", by_default.project);
    let pipeline = limit("pipeline", by_default.pipeline);
    Reader::finish(reader);
    Some(FlowLimits {
        cluster: cluster?,
        place: place?,
        tenant: tenant?,
        project: project?,
        pipeline: pipeline?,
        ..FlowLimits::lifted()
    })
}

/// `flow` of one thing: what is not written is as in general. None: it has none of its own.
pub(super) fn own(reader: &Reader<'_>, general: Limit) -> Option<Option<Limit>> {
    reader.maybe("flow", |item| limit(item, general))
}

fn limit(item: Item<'_>, general: Limit) -> Option<Limit> {
    let reader = item.map("a limit of `flow`")?;
    let number = |key: &'static str, general| reader.or(key, general, most);
    let in_flight = number("in-flight", general.in_flight);
    let per_second = number("per-second", general.per_second);
    Reader::finish(reader);
    Some(Limit {
        in_flight: in_flight?,
        per_second: per_second?,
    })
}

/// A number, or `none`: no limit.
fn most(item: Item<'_>) -> Option<Option<u32>> {
    if matches!(&item.node.value, super::tree::Value::Text(text) if text == "none") {
        return Some(None);
    }
    item.count().map(Some)
}
