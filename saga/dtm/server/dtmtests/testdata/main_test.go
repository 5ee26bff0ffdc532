// This file takes the place of the one with the same name in DTM's tests. It starts the
// services that the tests call, with MariaDB, and no server.
package test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/dtm-labs/dtm/client/workflow"
	"github.com/dtm-labs/dtm/dtmsvr"
	"github.com/dtm-labs/dtm/dtmsvr/config"
	"github.com/dtm-labs/dtm/dtmutil"
	"github.com/dtm-labs/dtm/test/busi"
	"github.com/dtm-labs/dtmdriver"
	"github.com/dtm-labs/logger"
)

func TestMain(m *testing.M) {
	logger.InitLog("fatal")
	config.MustLoadConfig("")
	dtmsvr.TransProcessedTestChan = make(chan string, 1)
	dtmsvr.CronForwardDuration = 180 * time.Second
	dtmdriver.Middlewares.HTTP = append(dtmdriver.Middlewares.HTTP, busi.SetHTTPHeaderForHeadersYes)

	port, err := strconv.ParseInt(os.Getenv("BUSI_PORT"), 10, 64)
	logger.FatalIfError(err)
	busi.BusiConf.Host, busi.BusiConf.Port = os.Getenv("BUSI_HOST"), port
	busi.BusiConf.User, busi.BusiConf.Password = os.Getenv("BUSI_USER"), os.Getenv("BUSI_PASSWORD")
	conf.Store.Driver = config.Mysql
	busi.ResetXaData()
	for _, script := range []string{"busi", "dtmcli.barrier"} {
		dtmutil.RunSQLScript(busi.BusiConf, fmt.Sprintf("%s/%s.mysql.sql", dtmutil.GetSQLDir(), script), false)
	}
	hsvr, gsvr := busi.Startup()
	workflow.InitHTTP(dtmutil.DefaultHTTPServer, Busi+"/workflow/resume")
	go busi.RunHTTP(hsvr)
	go busi.RunGrpc(gsvr)
	go dtmsvr.StartSvr()
	os.Exit(m.Run())
}
