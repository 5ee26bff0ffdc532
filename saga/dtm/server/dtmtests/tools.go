//go:build tools

package dtmtests

import _ "github.com/dtm-labs/dtm/client/dtmcli" // the module whose tests are run
