//! The key that cursors are authenticated with: made by a migration, shared by all replicas, seen by no client.

use super::Store;
use crate::query::cursor::{CursorKey, KEY_BYTES};

impl Store {
    /// The trail's key. It is read once: nothing changes it.
    pub async fn cursor_key(&self) -> Result<&CursorKey, sqlx::Error> {
        self.cursor_key.get_or_try_init(|| self.read_cursor_key()).await
    }

    async fn read_cursor_key(&self) -> Result<CursorKey, sqlx::Error> {
        let query = sqlx::query_scalar("SELECT key FROM cursor_key").fetch_one(&self.pool);
        let key: Vec<u8> = self.unless_lost(query).await?;
        let found = key.len();
        let bytes: [u8; KEY_BYTES] = key.try_into().map_err(|_| sqlx::Error::ColumnDecode {
            index: "key".to_owned(),
            source: format!("it has {found} bytes instead of {KEY_BYTES}").into(),
        })?;
        Ok(CursorKey::new(bytes))
    }
}
