// Package dtmtests runs DTM's own tests against package server. It has no code but tests.
//
// The tests are those in the folder test of the module github.com/dtm-labs/dtm, for its
// version in go.mod. They are copied to a temporary folder and run there. Their functions are
// not changed. They start DTM's server in their own process and read its store, so two parts
// are replaced in the copy: the package dtmsvr, by one that talks to our server, and the file
// with TestMain. The ports are changed to free ones.
//
// RESULTS.md has a line for each test: it passes, or it does not and why.
package dtmtests
