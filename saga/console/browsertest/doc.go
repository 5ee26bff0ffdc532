// Package browsertest tests the console in headless Chromium. It is a module of its own, so that
// the driver of the browser stays out of the library's go.mod.
//
// Each test has an engine on a database of its own, and the console in a server of its own.
// Every page that a test visits is checked: nothing in the browser's log, no violation of the
// Content-Security-Policy, and no finding of axe-core. Chromium is Debian's; a test without it
// is skipped, or fails if the environment has CI=true. Folder testdata has axe-core, with its
// licence and its checksum.
package browsertest
