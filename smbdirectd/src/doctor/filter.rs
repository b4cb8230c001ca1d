//! What nftables' rules do with packets to a port, read from `nft -j list ruleset`. Knows the rules
//! firewalls are made of; a condition it does not know is taken as not met, unless the rule names the
//! port.

use serde_json::Value;

use super::facts::Filter;

/// How deep chains may jump.
const DEPTH: u32 = 8;

/// Follows a packet of `protocol` ("udp", "tcp") to `port` through every input chain.
pub fn follow(ruleset: &Value, protocol: &str, port: u64) -> Filter {
    let Some(objects) = ruleset.get("nftables").and_then(Value::as_array) else {
        return Filter::Unknown;
    };
    let walk = Walk {
        objects,
        protocol,
        port,
    };
    let chains = objects.iter().filter_map(|object| object.get("chain"));
    for chain in chains.filter(|chain| text(chain, "hook") == "input") {
        let verdict = walk.chain(chain, DEPTH);
        let accepted = match verdict {
            Some(verdict) => verdict,
            None => text(chain, "policy") != "drop",
        };
        if !accepted {
            let names = ["family", "table", "name"].map(|part| text(chain, part));
            return Filter::Blocked(names.join(" "));
        }
    }
    Filter::Open
}

struct Walk<'a> {
    objects: &'a [Value],
    protocol: &'a str,
    port: u64,
}

impl Walk<'_> {
    /// Some(accepted), or None if the packet comes out at the end.
    fn chain(&self, chain: &Value, depth: u32) -> Option<bool> {
        let rules = self.objects.iter().filter_map(|object| object.get("rule"));
        let here = rules.filter(|rule| {
            ["family", "table"]
                .iter()
                .all(|part| rule.get(part) == chain.get(part))
                && text(rule, "chain") == text(chain, "name")
        });
        for rule in here {
            match self.rule(rule, depth) {
                Outcome::Next => {}
                Outcome::Return => return None,
                Outcome::Verdict(accepted) => return Some(accepted),
            }
        }
        None
    }

    fn rule(&self, rule: &Value, depth: u32) -> Outcome {
        let parts = rule.get("expr").and_then(Value::as_array);
        let parts = parts.map(Vec::as_slice).unwrap_or_default();
        let mut conditions = parts.iter().filter_map(|part| part.get("match"));
        let named = parts
            .iter()
            .filter_map(|part| part.get("match"))
            .any(|condition| self.names_port(condition));
        if !named && !conditions.all(|condition| self.is_protocol(condition)) {
            return Outcome::Next;
        }
        for part in parts {
            for (verdict, accepted) in [("accept", true), ("drop", false), ("reject", false)] {
                if part.get(verdict).is_some() {
                    return Outcome::Verdict(accepted);
                }
            }
            if part.get("return").is_some() {
                return Outcome::Return;
            }
            for word in ["jump", "goto"] {
                let Some(jump) = part.get(word) else {
                    continue;
                };
                let verdict = self.target(rule, jump, depth);
                match (verdict, word) {
                    (Some(accepted), _) => return Outcome::Verdict(accepted),
                    (None, "goto") => return Outcome::Return,
                    (None, _) => return Outcome::Next,
                }
            }
        }
        Outcome::Next
    }

    fn target(&self, rule: &Value, jump: &Value, depth: u32) -> Option<bool> {
        let chains = self.objects.iter().filter_map(|object| object.get("chain"));
        let mut targets = chains.filter(|chain| {
            rule.get("family") == chain.get("family")
                && rule.get("table") == chain.get("table")
                && text(chain, "name") == text(jump, "target")
        });
        self.chain(targets.next()?, depth.checked_sub(1)?)
    }

    /// The condition is that the packet goes to this port.
    fn names_port(&self, condition: &Value) -> bool {
        let payload = condition.pointer("/left/payload");
        let is_port = payload.is_some_and(|payload| {
            let protocol = text(payload, "protocol");
            text(payload, "field") == "dport" && (protocol == self.protocol || protocol == "th")
        });
        is_port && text(condition, "op") != "!=" && self.holds_port(condition.get("right"))
    }

    fn holds_port(&self, value: Option<&Value>) -> bool {
        let Some(value) = value else {
            return false;
        };
        if let Some(set) = value.get("set").and_then(Value::as_array) {
            return set.iter().any(|one| self.holds_port(Some(one)));
        }
        if let Some([low, high]) = value
            .get("range")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
        {
            let (low, high) = (low.as_u64(), high.as_u64());
            return low <= Some(self.port) && Some(self.port) <= high;
        }
        value.as_u64() == Some(self.port)
    }

    /// The condition is met by every such packet: it is of this protocol.
    fn is_protocol(&self, condition: &Value) -> bool {
        let meta = condition.pointer("/left/meta/key").and_then(Value::as_str);
        meta == Some("l4proto") && condition.get("right") == Some(&self.protocol.into())
    }
}

enum Outcome {
    Next,
    Return,
    Verdict(bool),
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chain(name: &str, hook: Option<(&str, &str)>) -> Value {
        let mut chain = json!({"family": "inet", "table": "filter", "name": name});
        if let Some((hook, policy)) = hook {
            chain["hook"] = hook.into();
            chain["policy"] = policy.into();
        }
        json!({"chain": chain})
    }

    fn rule(chain: &str, expr: Value) -> Value {
        json!({"rule": {"family": "inet", "table": "filter", "chain": chain, "expr": expr}})
    }

    fn to_port(protocol: &str, right: Value) -> Value {
        let left = json!({"payload": {"protocol": protocol, "field": "dport"}});
        json!({"match": {"op": "==", "left": left, "right": right}})
    }

    fn roce(objects: Vec<Value>) -> Filter {
        follow(&json!({ "nftables": objects }), "udp", 4791)
    }

    fn blocked() -> Filter {
        Filter::Blocked("inet filter input".into())
    }

    #[test]
    fn no_rule_blocks_nothing_and_no_ruleset_says_nothing() {
        assert_eq!(roce(vec![]), Filter::Open);
        assert_eq!(follow(&json!({}), "udp", 4791), Filter::Unknown);
    }

    #[test]
    fn a_rule_that_drops_the_port_blocks_it() {
        let input = chain("input", Some(("input", "accept")));
        for right in [
            json!(4791),
            json!({"set": [22, 4791]}),
            json!({"range": [4000, 5000]}),
        ] {
            let expr = json!([to_port("udp", right), {"counter": {}}, {"drop": null}]);
            assert_eq!(roce(vec![input.clone(), rule("input", expr)]), blocked());
        }
        for expr in [
            json!([to_port("tcp", json!(4791)), {"drop": null}]),
            json!([to_port("udp", json!(4792)), {"drop": null}]),
        ] {
            assert_eq!(roce(vec![input.clone(), rule("input", expr)]), Filter::Open);
        }
    }

    #[test]
    fn a_policy_of_drop_needs_a_rule_that_accepts() {
        let input = chain("input", Some(("input", "drop")));
        let established = json!([
            {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "established"}},
            {"accept": null}
        ]);
        let accepts = json!([to_port("th", json!(4791)), {"accept": null}]);
        let base = vec![input, rule("input", established)];
        assert_eq!(roce(base.clone()), blocked());
        let opened = [base, vec![rule("input", accepts)]].concat();
        assert_eq!(roce(opened), Filter::Open);
    }

    #[test]
    fn the_first_rule_that_decides_counts_in_chains_jumped_to_as_well() {
        let udp =
            json!({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "udp"}});
        let jump = json!([udp, {"jump": {"target": "datagrams"}}]);
        let objects = vec![
            chain("input", Some(("input", "accept"))),
            chain("datagrams", None),
            rule("input", jump),
            rule(
                "input",
                json!([to_port("udp", json!(4791)), {"accept": null}]),
            ),
            rule("datagrams", json!([{"reject": null}])),
        ];
        assert_eq!(roce(objects), blocked());
    }

    #[test]
    fn chains_that_jump_in_circles_end() {
        let jump = json!([{"jump": {"target": "input"}}]);
        let objects = vec![
            chain("input", Some(("input", "accept"))),
            rule("input", jump),
        ];
        assert_eq!(roce(objects), Filter::Open);
    }
}
