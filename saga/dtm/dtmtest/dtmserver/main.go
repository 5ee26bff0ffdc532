// Dtmserver is the DTM server, for tests and the benchmark to start as a process
// of its own. It takes its configuration from the environment.
package main

import "github.com/dtm-labs/dtm/dtmsvr/entry"

func main() {
	version := "1.19.0"
	if app, _ := entry.Main(&version); app != nil {
		select {}
	}
}
