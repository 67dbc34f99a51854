"""What a database is made of, read from pg_catalog: every fact as one line of text.

Two databases of the same facts are the same to every program. Facts carry no oids, and nothing of the
order in which things were made.
"""

from tallygate.storage.postgres import Connection

# Each query gives lines of text. Rights are spelled out one by one, as their order in an ACL means nothing.
_FACTS = {
    "schema": """
        SELECT nspname, right_.* FROM pg_namespace, rights_of(nspacl) right_
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'""",
    "relation": """
        SELECT relname, relkind, relpersistence, reloptions, relrowsecurity, relforcerowsecurity, relreplident,
            reltablespace, pg_get_userbyid(relowner), obj_description(oid, 'pg_class')
        FROM pg_class WHERE relnamespace = 'public'::regnamespace""",
    "right on relation": """
        SELECT relname, right_.* FROM pg_class, rights_of(relacl) right_
        WHERE relnamespace = 'public'::regnamespace""",
    "column": """
        SELECT attrelid::regclass, rank() OVER (PARTITION BY attrelid ORDER BY attnum), attname,
            format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attcollation::regcollation,
            attstorage, attcompression, attstattarget, attoptions, attacl, pg_get_expr(adbin, adrelid),
            col_description(attrelid, attnum)
        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attnum > 0 AND NOT attisdropped
            AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)""",
    "constraint": """
        SELECT conrelid::regclass, conname, contype, convalidated, pg_get_constraintdef(oid),
            obj_description(oid, 'pg_constraint')
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
    "index": """
        SELECT pg_get_indexdef(indexrelid), indisvalid, indisprimary, indisclustered,
            obj_description(indexrelid, 'pg_class')
        FROM pg_index JOIN pg_class ON oid = indexrelid WHERE relnamespace = 'public'::regnamespace""",
    "trigger": """
        SELECT pg_get_triggerdef(oid), tgenabled, obj_description(oid, 'pg_trigger')
        FROM pg_trigger WHERE NOT tgisinternal""",
    "function": """
        SELECT oid::regprocedure, pg_get_functiondef(oid), pg_get_userbyid(proowner), obj_description(oid, 'pg_proc')
        FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prokind <> 'a'""",
    "right on function": """
        SELECT oid::regprocedure, right_.* FROM pg_proc, rights_of(coalesce(proacl, acldefault('f', proowner))) right_
        WHERE pronamespace = 'public'::regnamespace""",
    "sequence": """
        SELECT seqrelid::regclass, seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle
        FROM pg_sequence""",
    "type": """
        SELECT oid::regtype, typtype, typbasetype::regtype, typdefault
        FROM pg_type WHERE typnamespace = 'public'::regnamespace""",
    "enum label": "SELECT enumtypid::regtype, enumlabel, enumsortorder FROM pg_enum",
    "policy": """
        SELECT polrelid::regclass, polname, polcmd, polroles::regrole[], pg_get_expr(polqual, polrelid),
            pg_get_expr(polwithcheck, polrelid)
        FROM pg_policy""",
    "rule": "SELECT pg_get_ruledef(oid) FROM pg_rewrite WHERE oid >= 16384",
    "event trigger": "SELECT evtname, evtevent, evtfoid::regproc FROM pg_event_trigger",
    "extension": "SELECT extname FROM pg_extension",
    "default right": "SELECT defaclnamespace::regnamespace, defaclobjtype, defaclacl FROM pg_default_acl",
    "generation": "SELECT * FROM public.license_generation",
    "audit head": "SELECT * FROM public.audit_head",
    "usage ledger": "SELECT * FROM public.usage_ledger",
}
_RIGHTS_OF = """
CREATE FUNCTION pg_temp.rights_of(aclitem[]) RETURNS TABLE (grantee text, privilege text, is_grantable boolean)
LANGUAGE sql AS $$
    SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type, is_grantable
    FROM aclexplode($1)
$$
"""


async def facts(connection: Connection) -> list[str]:
    """Return every fact about the database, sorted."""
    lines: list[str] = []
    async with connection.transaction():
        await connection.execute("SET LOCAL search_path = public, pg_temp")
        await connection.execute(_RIGHTS_OF)
        for kind, query in _FACTS.items():
            sql = query.replace("rights_of(", "pg_temp.rights_of(")
            rows = await connection.fetch(f"SELECT to_jsonb(fact)::text AS line FROM ({sql}) fact")  # noqa: S608
            lines += [f"{kind}: {row['line']}" for row in rows]
        await connection.execute("DROP FUNCTION pg_temp.rights_of")
    return sorted(lines)
