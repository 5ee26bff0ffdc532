// Package sagatest helps to test programs that embed an engine.
//
// [Open] opens an engine that polls and retries within milliseconds, so that a test is
// short, and [Run] runs it until the test ends. [Reach] and [Eventually] wait for the work
// that the engine does in the background.
//
// The database is the test's own: give each test a new one, with the schema of
// [github.com/tccsaga/tccsaga/saga/schema]. Package
// [github.com/tccsaga/tccsaga/tcc/tcctest] tests a branch without an engine.
package sagatest
