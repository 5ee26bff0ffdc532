// Package sql holds the database schema as plain SQL files: one per dialect, and the
// upgrades from older versions. Package schema installs and checks it. A team that runs
// its own migrations takes the files from here.
package sql

import "embed"

// Files are the schema of each dialect, such as mysql.sql, and its upgrades, such as
// upgrade/mysql_2.sql.
//
//go:embed mysql.sql postgres.sql sqlite.sql upgrade/*.sql
var Files embed.FS
