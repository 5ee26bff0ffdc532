// Package sql has the database schema as plain SQL files: one per dialect, and the upgrades
// from older versions. Package schema installs and checks it. A team with its own
// migrations may use the files directly.
package sql

import "embed"

// Files has the schema of each dialect, such as mysql.sql, and the upgrades, such as
// upgrade/mysql_2.sql.
//
//go:embed mysql.sql postgres.sql sqlite.sql upgrade/*.sql
var Files embed.FS
