// Package database opens the database of a command by an address that a person types: a URL,
// or the DSN of the Go driver. It links the drivers of MySQL, PostgreSQL and SQLite, so a
// program that has its own database leaves it out.
package database
