//! Tables of pools: built aside and swapped in, flags taken in place, read back.

use aya::maps::{MapData, MapError};
use lb_common::ladder::Slot;
use lb_common::maps::{self, name};
use lb_common::pool::PoolId;

use super::mapping::{self, LiveTable};
use super::{Datapath, DatapathError, MapFdNumber};
use crate::agent::flows::{SlotWrites, Table};

impl Datapath {
    /// Builds the table aside and swaps it in with one update; the kernel waits about 8 ms for
    /// programs that still read the old one.
    pub(super) fn publish_table(
        &mut self,
        pool: PoolId,
        content: &Table,
    ) -> Result<(), DatapathError> {
        const MAP: &str = name::TABLES;
        let slots = content.slots.len();
        let definition = aya_obj::Map::new_from_params(
            aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
            size_of::<u32>() as u32,
            size_of::<Slot>() as u32,
            2 * slots as u32,
            maps::TABLE_FLAGS,
        );
        let table = MapData::create(definition, "lb_table", None)
            .map_err(|source| DatapathError::Map { map: MAP, source })?;
        let failed = |source| DatapathError::Mapping { map: MAP, source };
        let fd = MapFdNumber::of(&table);
        mapping::write_table(&fd, content).map_err(failed)?;
        let live = LiveTable::map(&fd, slots).map_err(failed)?;
        self.tables
            .set(pool.0, &table, 0)
            .map_err(|source| DatapathError::Map { map: MAP, source })?;
        self.live_tables.insert(pool, live);
        Ok(())
    }

    /// Replaces slots of the table that the program reads, each by one store. Only their flags may
    /// differ from what stands there.
    ///
    /// # Errors
    /// The kernel's, if the table cannot be mapped.
    pub fn write_slots(&mut self, writes: &SlotWrites) -> Result<(), DatapathError> {
        const MAP: &str = name::TABLES;
        if !self.live_tables.contains_key(&writes.pool) {
            let failed = |source| DatapathError::Map { map: MAP, source };
            let table = self.tables.get(&writes.pool.0, 0).map_err(failed)?;
            let slots = table.info().map_err(failed)?.max_entries() / 2;
            let live = LiveTable::map(&MapFdNumber::of(&table), slots as usize)
                .map_err(|source| DatapathError::Mapping { map: MAP, source })?;
            self.live_tables.insert(writes.pool, live);
        }
        if let Some(live) = self.live_tables.get(&writes.pool) {
            for (index, slot) in &writes.slots {
                live.store(*index, *slot);
            }
        }
        Ok(())
    }

    /// The table of a pool, as the program reads it, flags and previous owners included; `None`
    /// before the first is published.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn table(&self, pool: PoolId, slots: u32) -> Result<Option<Table>, DatapathError> {
        const MAP: &str = name::TABLES;
        let table = match self.tables.get(&pool.0, 0) {
            Ok(table) => table,
            Err(MapError::KeyNotFound) => return Ok(None),
            Err(source) => return Err(DatapathError::Map { map: MAP, source }),
        };
        let failed = |source| DatapathError::Map { map: MAP, source };
        if table.info().map_err(failed)?.max_entries() < 2 * slots {
            // An agent was killed between the writes that give a pool's id away: no table of it.
            return Ok(None);
        }
        mapping::read_table(&MapFdNumber::of(&table), slots as usize)
            .map(Some)
            .map_err(|source| DatapathError::Mapping { map: MAP, source })
    }

    /// The kernel's id of a pool's table: another one after each swap, the same after anything else.
    ///
    /// # Errors
    /// The kernel's, with the map's name.
    pub fn table_id(&self, pool: PoolId) -> Result<Option<u32>, DatapathError> {
        let failed = |source| DatapathError::Map {
            map: name::TABLES,
            source,
        };
        match self.tables.get(&pool.0, 0) {
            Ok(table) => Ok(Some(table.info().map_err(failed)?.id())),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(failed(source)),
        }
    }
}
