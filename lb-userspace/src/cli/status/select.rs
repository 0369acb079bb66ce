//! What of the status a name means.

use anyhow::anyhow;

use crate::config::suggest::nearest;
use crate::control::{BackendStatus, PoolStatus, Status};

/// The part of a status that a name stands for: an object of the same shape.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) status: Status,
    /// Whether the name is only a backend's.
    pub(super) is_backend: bool,
}

/// Everything of that name. A service comes with its pool, a pool with its services, a backend with
/// its pool, but without the other backends.
pub(super) fn by_name(status: &Status, name: &str) -> anyhow::Result<Selection> {
    let is_named_pool = |pool: &str| {
        let of_service = |service: &&_| is_service_of(service, name, pool);
        pool == name || status.services.iter().any(|service| of_service(&service))
    };
    let pools: Vec<_> = status
        .pools
        .iter()
        .filter(|pool| is_named_pool(&pool.name))
        .cloned()
        .collect();
    let services: Vec<_> = status
        .services
        .iter()
        .filter(|service| service.name == name || service.pool == name)
        .cloned()
        .collect();
    let part = |pools: Vec<PoolStatus>, services, removed| Status {
        version: status.version.clone(),
        agent: status.agent.clone(),
        services,
        pools,
        removed,
    };
    let removed = |is_wanted: &dyn Fn(&BackendStatus) -> bool| -> Vec<BackendStatus> {
        let backends = status.removed.iter();
        backends.filter(|it| is_wanted(it)).cloned().collect()
    };
    if !(pools.is_empty() && services.is_empty()) {
        return Ok(Selection {
            status: part(
                pools.clone(),
                services,
                removed(&|it| pools.iter().any(|pool| pool.name == it.pool)),
            ),
            is_backend: false,
        });
    }
    let pools: Vec<_> = status
        .pools
        .iter()
        .filter_map(|pool| only_backend(pool, name))
        .collect();
    let removed = removed(&|it| it.name == name || format!("{}/{}", it.pool, it.name) == name);
    if pools.is_empty() && removed.is_empty() {
        return Err(unknown(status, name));
    }
    Ok(Selection {
        status: part(pools, Vec::new(), removed),
        is_backend: true,
    })
}

fn is_service_of(service: &crate::control::ServiceStatus, name: &str, pool: &str) -> bool {
    service.name == name && service.pool == pool
}

/// The pool with only the backend `name` or `pool/name`, if it has it.
fn only_backend(pool: &PoolStatus, name: &str) -> Option<PoolStatus> {
    let name = name
        .strip_prefix(pool.name.as_str())
        .and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or(name);
    let backend = pool.backends.iter().find(|backend| backend.name == name)?;
    Some(PoolStatus {
        backends: vec![backend.clone()],
        ..pool.clone()
    })
}

fn unknown(status: &Status, name: &str) -> anyhow::Error {
    let services = status.services.iter().map(|service| service.name.as_str());
    let pools = status.pools.iter().map(|pool| pool.name.as_str());
    let backends = status
        .pools
        .iter()
        .flat_map(|pool| &pool.backends)
        .map(|backend| backend.name.as_str());
    let hint = match nearest(name, services.chain(pools).chain(backends)) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "lb status shows them all".to_owned(),
    };
    anyhow!("no service, pool or backend is called {name:?}; {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::status;

    fn names(name: &str) -> (Vec<String>, Vec<String>) {
        let selection = by_name(&status(), name).expect(name).status;
        let services = selection.services.iter().map(|service| &service.name);
        let backends = selection.pools.iter().flat_map(|pool| {
            pool.backends
                .iter()
                .map(move |backend| format!("{}/{}", pool.name, backend.name))
        });
        (services.cloned().collect(), backends.collect())
    }

    #[test]
    fn a_service_comes_with_its_pool() {
        let (services, backends) = names("orders");
        assert_eq!(services, ["orders"]);
        assert_eq!(backends.len(), 4);
    }

    #[test]
    fn a_pool_comes_with_its_services() {
        let (services, backends) = names("logic");
        assert_eq!(services, ["orders", "any-six"]);
        assert_eq!(backends.len(), 4);
    }

    #[test]
    fn a_backend_comes_alone() {
        for name in ["logic-2", "logic/logic-2"] {
            assert_eq!(names(name), (vec![], vec!["logic/logic-2".into()]));
        }
    }

    #[test]
    fn an_unknown_name_says_what_was_meant() {
        for (name, hint) in [
            ("logic-11", "did you mean \"logic-1\"?"),
            ("order", "did you mean \"orders\"?"),
            ("zebra", "lb status shows them all"),
        ] {
            let error = by_name(&status(), name).expect_err(name).to_string();
            assert_eq!(
                error,
                format!("no service, pool or backend is called {name:?}; {hint}")
            );
        }
    }
}
