package console

import "net/http"

// routes are the pages and acts by name.
var routes map[string]*route

func init() { // the pages refer to routes
	routes = map[string]*route{
		"":                 {http.MethodGet, View, home},
		"transactions":     {http.MethodGet, View, transactions},
		"find":             {http.MethodGet, View, find},
		"transaction":      {http.MethodGet, View, transaction},
		"transaction.json": {http.MethodGet, Export, export},
		"transaction/act":  {http.MethodPost, "", actOnTransaction},
		"kinds":            {http.MethodGet, View, kinds},
		"kinds/act":        {http.MethodPost, "", actOnKind},
		"instances":        {http.MethodGet, View, instances},
		"messages":         {http.MethodGet, View, messages},
		"letters":          {http.MethodGet, View, letters},
		"letter":           {http.MethodGet, View, letter},
		"letters/act":      {http.MethodPost, "", actOnLetters},
		"indoubt":          {http.MethodGet, View, inDoubt},
		"acts":             {http.MethodGet, View, acts},
		"bulks":            {http.MethodGet, View, bulkList},
		"bulk":             {http.MethodGet, View, bulk},
		"bulk/new":         {http.MethodGet, View, bulkNew},
		"bulk/freeze":      {http.MethodPost, Bulk, bulkFreeze},
		"bulk/run":         {http.MethodPost, Bulk, bulkRun},
		"settings":         {http.MethodPost, View, settings},
	}
}

// settings sets the theme.
func settings(v *visit) error {
	switch theme := v.r.PostFormValue("theme"); theme {
	case "light", "dark":
		v.setCookie(cookieTheme, theme, 365*24*3600)
	case "auto":
		v.setCookie(cookieTheme, "", -1)
	default:
		return &problem{status: http.StatusBadRequest, key: "error.form"}
	}
	http.Redirect(v.w, v.r, v.back(), http.StatusSeeOther)
	return nil
}
