"""Writes the Grafana dashboard: dashboard.py > dashboard.json. The check holds that the two agree."""
import json

P = "dressipi_sidecar_"
R = "namespace_job:" + P
HERE = '{job=~"$job",instance=~"$instance"'
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
REASONS = "store|dressipi|unconfirmed|timeout|rejected|busy|internal|lost"
LIMITS = "rate-limited|rate-limited-overall|budget|creations-busy"


def of(name, labels=""):
    return f"{P}{name}{HERE}{',' if labels else ''}{labels}}}"


def rate(name, labels="", by="", window="$__rate_interval", what="rate"):
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} ({what}({of(name, labels)}[{window}]))"


def quantiles(name, by):
    buckets = f"sum by ({by}, le) (rate({of(name + '_bucket')}[$__rate_interval]))"
    return [(f"histogram_quantile({q}, {buckets})", f"p{q * 100:.0f} {{{{{by}}}}}") for q in (0.5, 0.95)]


def recorded(name):
    return f'{R}{name}{{job=~"$job"}}'


def visitors_requests():
    """Requests on routes that carry visitors' tokens."""
    return (f"sum (rate({of('requests_total')}[$__rate_interval]) and on (namespace, job, instance, route) "
            + of("unpersonalised_requests_total", 'reason="store"') + ")")


# A panel: title, what it tells, unit, queries with their legends, the alerts that watch it.
ROWS = [
    ("Profiles and visitors", [
        ("Profiles for each new visitor", "Over six hours and all replicas; visitors known by cookie. 1 is right; above it history is split.",
         "none", [(f"{recorded('profiles:increase6h')} / ({recorded('visitors:increase6h')} > 0)", "{{job}}")],
         ["DressipiMoreProfilesThanVisitors"]),
        ("Profiles and new visitors in an hour", "Each profile beside the visitors who were given a cookie; with create = \"returning\" many of these get none.",
         "short", [(recorded("profiles:increase1h"), "profiles {{job}}"), (recorded("visitors:increase1h"), "new visitors {{job}}")],
         ["DressipiMoreProfilesThanVisitors"]),
        ("What happened to visitors", "Lost token sets, lost answers, wasted profiles, recoveries and erasures; quiet is good.",
         "ops", [(rate("visitor_events_total", 'event!~"visitor_minted|profile_created"', "event"), "{{event}}")],
         ["DressipiTokenSetsLost", "DressipiAuthorizeAnswersLost", "DressipiErasurePostponed"]),
    ]),
    ("Personalised share, and why not", [
        ("Personalised share", "Requests with a visitor's token among those on routes that carry one.",
         "percentunit", [(f"1 - {rate('unpersonalised_requests_total')} / ({visitors_requests()} > 0)", "personalised")],
         ["DressipiPersonalisationFalling"]),
        ("Failing share", "Requests without a token although visitor and operator wanted one, over ten minutes and all replicas.",
         "percentunit", [(recorded("failing_share:rate10m"), "{{job}}")], ["DressipiPersonalisationFailing"]),
        ("Without a token because something failed", "By reason. Each is a visitor without recommendations of their own.",
         "reqps", [(rate("unpersonalised_requests_total", f'reason=~"{REASONS}"', "reason"), "{{reason}}")],
         ["DressipiPersonalisationFailing"]),
        ("Without a token because it was wanted so", "Consent, bots, probes, prefetches, requests that may make no profile.",
         "reqps", [(rate("unpersonalised_requests_total", f'reason!~"{REASONS}|{LIMITS}"', "reason"), "{{reason}}")],
         ["DressipiPersonalisationFalling"]),
        ("Flows that ended without a token", "Work for visitors, by reason. Many requests may wait for one flow.",
         "ops", [(rate("flow_failures_total", by="reason"), "{{reason}}"), (f"sum ({of('flows_in_flight')})", "under way")], []),
        ("Tokens of the vendor's, adopted", "Requests that went with the token that the visitor carried along: no profile was made for them.",
         "reqps", [(rate("adopted_token_requests_total"), "adopted")], []),
    ]),
    ("OAuth calls to Dressipi", [
        ("Calls", "By kind and result. Each authorize with result ok made a profile.",
         "ops", [(rate("oauth_calls_total", by="call, result") + " > 0", "{{call}} {{result}}")], ["DressipiOauthFailing"]),
        ("Failing share of calls", "Over ten minutes and all replicas.", "percentunit",
         [('namespace_job_call:dressipi_sidecar_oauth_failures:rate10m{job=~"$job"} '
           '/ (namespace_job_call:dressipi_sidecar_oauth_calls:rate10m{job=~"$job"} > 0)', "{{call}}")],
         ["DressipiOauthFailing", "DressipiRefreshesFailing"]),
        ("Latency of calls", "First visits wait for authorize and exchange, session.max_wait at most.",
         "s", quantiles("oauth_call_duration_seconds", "call"), ["DressipiOauthSlow"]),
    ]),
    ("Refreshes and tokens", [
        ("Refreshes", "By result; invalid_grant ends a visitor's history.",
         "ops", [(rate("oauth_calls_total", 'call="refresh"', "result") + " > 0", "{{result}}")], ["DressipiRefreshesFailing"]),
        ("Lifetime of access tokens", "As Dressipi gave it last; 0: none yet. An outage of that length leaves nobody personalised.",
         "s", [(of("token_lifetime_seconds"), "{{instance}}")], ["DressipiTokensLiveShortly"]),
        ("Tokens that Dressipi rejected", "401 and 403 to a visitor's token, and requests that were sent once more for it.",
         "ops", [(rate("token_rejections_total", by="action"), "{{action}}"), (rate("replayed_requests_total"), "sent again")],
         ["DressipiTokensRejected"]),
    ]),
    ("Store", [
        ("Calls", "By kind; errors apart.", "ops", [
            (rate("store_calls_total", 'result="ok"', "call"), "{{call}}"),
            (rate("store_calls_total", 'result="error"', "call"), "{{call}} failed")], ["DressipiStoreFailing"]),
        ("Latency of calls", "The first request of a visitor whom the cache does not know waits for a load.",
         "s", quantiles("store_call_duration_seconds", "call"), ["DressipiStoreSlow"]),
        ("Visitors", "Stored sessions by state (replicas on one store see one number), those in memory, and those that only memory has.", "short", [
            (f"max by (state) ({of('sessions')})", "{{state}}"), (f"sum ({of('cached_visitors')})", "in the caches"),
            (f"sum ({of('unsaved_sessions')})", "unsaved")], ["DressipiSessionsUnsaved", "DressipiStoreForgot"]),
        ("Leases", "Between replicas: taken, held by another, ended under a flow at work.", "ops", [
            (rate("leases_total", by="event"), "{{event}}")], []),
        ("Gaps in the news", "Times that news of other replicas may have been missed; every cached token is then looked up anew.",
         "short", [(rate("news_gaps_total", by="instance", what="increase"), "{{instance}}")], ["DressipiReplicasMissNews"]),
    ]),
    ("Requests", [
        ("Requests", "By route and status class; none: the client was gone.", "reqps", [
            (rate("requests_total", by="route, class") + " > 0", "{{route}} {{class}}")], ["DressipiUpstreamFailing"]),
        ("Latency", "From a request's header to the end of its answer, the upstream's time included.",
         "s", quantiles("request_duration_seconds", "upstream"), []),
        ("5xx share", "By upstream; a 502 or 504 of the sidecar's own counts for the upstream that it stands for.", "percentunit", [
            (rate("requests_total", 'class="5xx"', "upstream") + f" / ({rate('requests_total', by='upstream')} > 0)", "{{upstream}}")],
         ["DressipiUpstreamFailing"]),
        ("Refused and unrouted requests", "Malformed, ambiguous, too large, too slow; and those that no route takes.", "reqps", [
            (rate("refused_requests_total", by="reason") + " > 0", "{{reason}}"), (rate("unrouted_requests_total"), "no route")], []),
        ("In flight", "Requests that are being answered.", "short", [(of("requests_in_flight"), "{{instance}}")], []),
    ]),
    ("Creation guard", [
        ("Met a limit", "Requests that went without a profile because a limit on making them was reached.", "reqps", [
            (rate("unpersonalised_requests_total", f'reason=~"{LIMITS}"', "reason"), "{{reason}}")], ["DressipiCreationsRefused"]),
        ("The day's budget", "How much of creation.daily is spent; of a process and a day of UTC.", "percentunit", [
            (f"{of('creations_today')} / ({of('creation_daily_limit')} > 0)", "{{instance}}")], ["DressipiCreationBudgetNearEnd"]),
    ]),
    ("Configuration and certificates", [
        ("Runs what the file says", "1: the configuration in the file is the one in use.", "bool", [
            (of("config_last_reload_successful"), "{{instance}}")], ["DressipiReloadRefused"]),
        ("Reloads", "Of the configuration and of certificates, by result.", "short", [
            (rate("config_reloads_total", by="result", what="increase"), "configuration {{result}}"),
            (rate("certificate_reloads_total", by="result", what="increase"), "certificate {{result}}")],
         ["DressipiCertificateReloadFailed", "DressipiReloadRefused"]),
        ("In use for", "How long the configuration has been in use.", "s", [
            (f"time() - {of('config_last_reload_success_timestamp_seconds')}", "{{instance}}")], []),
        ("Certificates end in", "Those that listeners show, and those that we show to upstreams.", "s", [
            (f"{of('certificate_expiry_seconds')} - time()", "{{listener}} {{instance}}"),
            (f"{of('client_certificate_expiry_seconds')} - time()", "to {{upstream}} {{instance}}")],
         ["DressipiCertificateEnds", "DressipiClientCertificateEnds"]),
    ]),
    ("Connections and process", [
        ("Connections", "Of clients, that are open.", "short", [(of("open_connections"), "{{instance}}")], []),
        ("Tasks", "What is alive in the process, by runtime: connections, flows, and what is done every so often. Beside steady traffic it is steady.",
         "short", [(of("runtime_tasks"), "{{instance}} {{runtime}}")], []),
        ("Refused connections", "Closed before their first request, by the limit that was met; TLS handshakes that failed.", "cps", [
            (rate("refused_connections_total", by="limit"), "{{limit}}")], ["DressipiConnectionsRefused"]),
        ("Up", "Whether /metrics answered.", "bool", [('up{job=~"$job",instance=~"$instance"}', "{{instance}}")], ["DressipiSidecarDown"]),
        ("Runs since", "Time since the process began, by version.", "s", [
            (f"(time() - {of('start_time_seconds')}) * on (job, instance) group_left (version) {of('build_info')}",
             "{{instance}} {{version}}")], ["DressipiSidecarRestarts"]),
        ("Clock beside Prometheus's", "Positive: the sidecar's is ahead.", "s", [
            (f"{of('time_seconds')} - timestamp({of('time_seconds')})", "{{instance}}")], ["DressipiSidecarClockOff"]),
        ("Access log lines dropped", "Standard error did not take them fast enough.", "short", [
            (rate("access_lines_dropped_total", by="instance", what="increase"), "{{instance}}")], ["DressipiAccessLinesDropped"]),
        ("Spans", "Traces: spans that were exported, and those that were not; batches that were sent once more.", "short", [
            (rate("trace_spans_total", by="result", what="increase"), "{{result}}"),
            (rate("trace_export_retries_total", by="instance", what="increase"), "sent again: {{instance}}")], []),
    ]),
]


def panel(number, title, tells, unit, queries, alerts, place):
    field = {"unit": unit, "custom": {"fillOpacity": 8, "showPoints": "never", "lineWidth": 1}}
    if unit != "s":
        field["min"] = 0
    targets = [{"refId": chr(65 + at), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend, "range": True}
               for at, (expr, legend) in enumerate(queries)]
    links = [{"title": alert, "url": f"/alerting/list?search={alert}", "targetBlank": True} for alert in alerts]
    return {"id": number, "type": "timeseries", "title": title, "description": tells, "datasource": DATASOURCE, "gridPos": place,
            "targets": targets, "links": links, "fieldConfig": {"defaults": field, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}}


def variable(name, label, of_what):
    query = f"label_values({of_what}, {name})"
    return {"name": name, "label": label, "type": "query", "datasource": DATASOURCE, "definition": query,
            "query": {"query": query, "refId": name}, "multi": True, "includeAll": True, "allValue": ".*",
            "current": {"text": "All", "value": "$__all"}, "refresh": 2, "sort": 1}


def panels():
    number, top = 0, 0
    firing = {"id": 1000, "type": "alertlist", "title": "Alerts", "description": "Alerts of the sidecar that fire or are about to.",
              "gridPos": {"x": 0, "y": 0, "w": 24, "h": 5},
              "options": {"alertName": "Dressipi", "stateFilter": {"firing": True, "pending": True}, "viewMode": "list"}}
    yield firing
    top = 5
    for title, row in ROWS:
        number += 1
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": top, "w": 24, "h": 1}}
        top += 1
        for start in range(0, len(row), 3):
            line = row[start:start + 3]
            width = 24 // len(line)
            for at, (name, tells, unit, queries, alerts) in enumerate(line):
                number += 1
                yield panel(number, name, tells, unit, queries, alerts, {"x": at * width, "y": top, "w": width, "h": 8})
            top += 8


def dashboard():
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}, "refresh": 1}
    return {
        "uid": "dressipi-sidecar", "title": "dressipi-sidecar", "tags": ["dressipi-sidecar"], "schemaVersion": 39, "editable": True,
        "description": "One visitor, one profile, whatever happens.", "time": {"from": "now-6h", "to": "now"}, "refresh": "30s",
        "templating": {"list": [source, variable("job", "Job", P + "build_info"),
                                variable("instance", "Instance", P + 'build_info{job=~"$job"}')]},
        "links": [{"title": "Alerts", "type": "link", "url": "/alerting/list?search=Dressipi", "targetBlank": True}],
        "annotations": {"list": []}, "panels": list(panels()),
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))
