--
-- PostgreSQL database dump
--


-- Dumped from database version 16.14
-- Dumped by pg_dump version 16.14

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: alembic_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);


--
-- Name: attribute_value; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.attribute_value (
    tenant text NOT NULL,
    subject bytea NOT NULL,
    attribute text NOT NULL,
    version bigint NOT NULL,
    type_version integer NOT NULL,
    key_class text NOT NULL,
    ciphertext bytea,
    written_at bigint NOT NULL
);


--
-- Name: audit_index; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.audit_index (
    log integer NOT NULL,
    index bigint NOT NULL,
    "time" bigint NOT NULL,
    tenant text NOT NULL,
    caller text NOT NULL,
    subject text NOT NULL,
    purpose text NOT NULL,
    action text NOT NULL,
    outcome text NOT NULL
);


--
-- Name: bundle; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.bundle (
    hash text NOT NULL,
    files bytea NOT NULL,
    first_served_at bigint NOT NULL
);


--
-- Name: consent_event; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.consent_event (
    tenant text NOT NULL,
    subject bytea NOT NULL,
    seq bigint NOT NULL,
    id text NOT NULL,
    purpose text NOT NULL,
    state text NOT NULL,
    notice text NOT NULL,
    notice_version integer NOT NULL,
    language text NOT NULL,
    notice_sha256 text NOT NULL,
    jurisdiction text NOT NULL,
    scope text NOT NULL,
    channel text NOT NULL,
    evidence text NOT NULL,
    valid_from bigint NOT NULL,
    expires_at bigint NOT NULL,
    recorded_by text NOT NULL,
    recorded_at bigint NOT NULL
);


--
-- Name: consent_state; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.consent_state (
    tenant text NOT NULL,
    subject bytea NOT NULL,
    purpose text NOT NULL,
    lane text NOT NULL,
    seq bigint NOT NULL,
    event_id text NOT NULL,
    state text NOT NULL,
    notice text NOT NULL,
    notice_version integer NOT NULL,
    expires_at bigint NOT NULL,
    categories text NOT NULL
);


--
-- Name: erasure_evidence; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.erasure_evidence (
    tenant text NOT NULL,
    receipt bytea NOT NULL,
    dek_id bytea NOT NULL,
    wrapped bytea NOT NULL,
    ciphertext bytea NOT NULL,
    created_at bigint NOT NULL,
    keep_until bigint NOT NULL,
    CONSTRAINT ck_erasure_evidence_dek_id CHECK ((length(dek_id) = 32)),
    CONSTRAINT ck_erasure_evidence_receipt CHECK ((length(receipt) = 16))
);


--
-- Name: log; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.log (
    log integer NOT NULL,
    origin text NOT NULL,
    size bigint NOT NULL,
    integrated bigint NOT NULL,
    state text NOT NULL,
    CONSTRAINT ck_log_sizes CHECK (((size >= 0) AND (integrated >= 0))),
    CONSTRAINT ck_log_state CHECK ((state = ANY (ARRAY['active'::text, 'adopting'::text, 'closed'::text])))
);


--
-- Name: log_checkpoint; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.log_checkpoint (
    log integer NOT NULL,
    size bigint NOT NULL,
    root bytea NOT NULL,
    note text NOT NULL,
    signed_at bigint NOT NULL
);


--
-- Name: log_entry; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.log_entry (
    log integer NOT NULL,
    index bigint NOT NULL,
    record_id text NOT NULL,
    entry bytea NOT NULL,
    leaf_hash bytea NOT NULL
);


--
-- Name: log_key; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.log_key (
    log integer NOT NULL,
    number integer NOT NULL,
    provider text NOT NULL,
    version integer NOT NULL,
    public_key bytea NOT NULL,
    announced bigint NOT NULL,
    created_at bigint NOT NULL
);


--
-- Name: log_tile; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.log_tile (
    log integer NOT NULL,
    level integer NOT NULL,
    index bigint NOT NULL,
    hashes bytea NOT NULL
);


--
-- Name: outbox; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.outbox (
    id bigint NOT NULL,
    log integer NOT NULL,
    kind text NOT NULL,
    path text NOT NULL,
    document bytea NOT NULL,
    created_at bigint NOT NULL,
    delivered_at bigint
);


--
-- Name: outbox_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: outbox_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.outbox_id_seq OWNED BY public.outbox.id;


--
-- Name: quota_use; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.quota_use (
    tenant text NOT NULL,
    caller text NOT NULL,
    purpose text NOT NULL,
    hour bigint NOT NULL,
    subjects bigint NOT NULL
);


--
-- Name: request; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.request (
    tenant text NOT NULL,
    caller text NOT NULL,
    request_id text NOT NULL,
    record_id text NOT NULL,
    fingerprint bytea NOT NULL,
    answer bytea NOT NULL,
    created_at bigint NOT NULL
);


--
-- Name: schema_info; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.schema_info (
    name text NOT NULL,
    value text NOT NULL
);


--
-- Name: subject; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.subject (
    tenant text NOT NULL,
    subject bytea NOT NULL,
    audit_pseudonym text NOT NULL,
    jurisdictions text NOT NULL,
    restricted_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    created_at bigint NOT NULL,
    relationship_ended_on date,
    legal_hold text DEFAULT ''::text NOT NULL,
    CONSTRAINT ck_subject_jurisdictions CHECK ((jurisdictions <> ''::text)),
    CONSTRAINT ck_subject_subject CHECK ((length(subject) = 16))
);


--
-- Name: subject_key; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.subject_key (
    tenant text NOT NULL,
    subject bytea NOT NULL,
    dek_id bytea NOT NULL,
    key_class text NOT NULL,
    wrapped bytea NOT NULL,
    created_at bigint NOT NULL,
    retained_since bigint DEFAULT '0'::bigint NOT NULL,
    CONSTRAINT ck_subject_key_dek_id CHECK ((length(dek_id) = 32))
);


--
-- Name: subject_lookup; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.subject_lookup (
    tenant text NOT NULL,
    mac bytea NOT NULL,
    key_version integer NOT NULL,
    subject bytea NOT NULL,
    CONSTRAINT ck_subject_lookup_mac CHECK ((length(mac) = 32))
);


--
-- Name: tenant_key; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.tenant_key (
    tenant text NOT NULL,
    use text NOT NULL,
    version integer NOT NULL,
    wrapped bytea NOT NULL,
    retired_at bigint DEFAULT '0'::bigint NOT NULL
);


--
-- Name: outbox id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.outbox ALTER COLUMN id SET DEFAULT nextval('public.outbox_id_seq'::regclass);


--
-- Data for Name: alembic_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alembic_version VALUES ('0003');


--
-- Data for Name: attribute_value; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.attribute_value VALUES ('retail', '\x98954133242ea73bd45c1a822ee9e663', '$customer-number', 1, 1, 'lookup', '\x44560101d609c8fd8923851607a1d8da1324a1e155b1c2434ee892d5198e2d50ca358201779b07eba885ed8993dfbc006738d94015d5fade2e418028442308cec9a3b5', 1795512210281444);
INSERT INTO public.attribute_value VALUES ('retail', '\x98954133242ea73bd45c1a822ee9e663', 'income', 1, 1, 'financial', '\x44560101eb068431130ed44b93cdd559902c05c61bbf4fc998d75f31d120fadc1acf6465f451cde7711988616b952b2741bcaa5790e560e2935f5f04928ca08722b85b9298b5a4a7', 1795512210288348);
INSERT INTO public.attribute_value VALUES ('retail', '\x98954133242ea73bd45c1a822ee9e663', 'given-name', 1, 1, 'identity', '\x4456010177caa681ec2af17c428deff844d0bebce959dc409acdf57dd01a74c730abc56954c01ca2dfbf7e219b62a2afb89d51eab1284a28b6767a1ee2bf2ba68cd415', 1795512210288348);
INSERT INTO public.attribute_value VALUES ('retail', '\x049ff9f706e27b6cb00918a732966981', '$customer-number', 1, 1, 'lookup', '\x44560101d609c8fd8923851607a1d8da1324a1e155b1c2434ee892d5198e2d50ca3582017fc75542cb275490f29befa5e2aceb254d6d9f5090804596ddc552e54937ba', 1795512210305333);
INSERT INTO public.attribute_value VALUES ('retail', '\x049ff9f706e27b6cb00918a732966981', 'email', 1, 1, 'contact', '\x44560101838662610607a198344212a1bdf13e139961fd8176f42473bd6affa226cddc304f12b1287e3be55cc1a687016c734c3116e7ca062d6811841ffd871e95f76b7cf60c4075ada1188f2fb441dd', 1795512210307699);
INSERT INTO public.attribute_value VALUES ('retail', '\x049ff9f706e27b6cb00918a732966981', 'income', 1, 1, 'financial', '\x44560101e8c78037936224f9653174e5b58a5beec6829bd35b4803340d6c3877db3ffc8b36199746618ea0cba3f5ba174a0ace3cbef5c3f9af08bb9f1881e881f51cba54fd0f6b69', 1795512210307699);
INSERT INTO public.attribute_value VALUES ('retail', '\x049ff9f706e27b6cb00918a732966981', 'given-name', 1, 1, 'identity', '\x44560101a1080a735da8e492d659d55aab1723dc3a68d594fe39e82339e5990dca236f4b8a131198bd0bdfa2c5bdc2f3da40df1cb583b73df3f054445a8c76502703b5', 1795512210307699);
INSERT INTO public.attribute_value VALUES ('retail', '\x98954133242ea73bd45c1a822ee9e663', 'email', 2, 1, 'contact', '\x445601015588991ab3d880d0b30a54178ec94c30e4e44816653894abe00003c3d1bea50ca9767dfa791d7f487364e38417604543917ba527b64f15a7b4d5e9598cb4b8cb88d003bc348f889526c9e183f475', 1795512210332436);


--
-- Data for Name: audit_index; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.audit_index VALUES (1, 0, 1795512210290929, 'retail', 'importer', 'b75faeba1aeb5ca107e2599d66e3d138', '', 'write', 'authorised');
INSERT INTO public.audit_index VALUES (1, 1, 1795512210301521, 'retail', 'customer-portal', 'b75faeba1aeb5ca107e2599d66e3d138', 'personalised-offers', 'consent.record', 'authorised');
INSERT INTO public.audit_index VALUES (1, 2, 1795512210308536, 'retail', 'importer', 'ec3f532647bb4e92338b78a13eb481a0', '', 'write', 'authorised');
INSERT INTO public.audit_index VALUES (1, 3, 1795512210315074, 'retail', 'customer-portal', 'ec3f532647bb4e92338b78a13eb481a0', 'personalised-offers', 'consent.record', 'authorised');
INSERT INTO public.audit_index VALUES (1, 4, 1795512210323959, 'retail', 'customer-portal', 'ec3f532647bb4e92338b78a13eb481a0', 'personalised-offers', 'consent.withdraw', 'authorised');
INSERT INTO public.audit_index VALUES (1, 5, 1795512210332764, 'retail', 'importer', 'b75faeba1aeb5ca107e2599d66e3d138', '', 'write', 'authorised');
INSERT INTO public.audit_index VALUES (1, 6, 1795512210338273, 'retail', 'fraud-detection', 'b75faeba1aeb5ca107e2599d66e3d138', 'fraud-detection', 'read', 'authorised');


--
-- Data for Name: bundle; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: consent_event; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.consent_event VALUES ('retail', '\x98954133242ea73bd45c1a822ee9e663', 1, '01a20cde-137a-73df-a295-8ad184eb8540', 'personalised-offers', 'given', 'offers', 2, 'en', 'df10a291c7cbd0946cc4556c3c2863b3eca0ba568931b0810510f1ff951bf667', 'EU', '{"personalised-offers":["pd:Age","pd:BankAccount","pd:BirthDate","pd:Communication","pd:EmailAddress","pd:FinancialAccount","pd:GroupProfile","pd:Income","pd:Interest","pd:Job","pd:Language","pd:LinkClicked","pd:Name","pd:ServiceConsumptionBehavior"]}', 'app', '', 1795512210298214, 1827048210295033, 'customer-portal', 1795512210298214);
INSERT INTO public.consent_event VALUES ('retail', '\x049ff9f706e27b6cb00918a732966981', 1, '01a20cde-1389-797d-8cc8-54cb491a32dd', 'personalised-offers', 'given', 'offers', 2, 'en', 'df10a291c7cbd0946cc4556c3c2863b3eca0ba568931b0810510f1ff951bf667', 'EU', '{"personalised-offers":["pd:Age","pd:BankAccount","pd:BirthDate","pd:Communication","pd:EmailAddress","pd:FinancialAccount","pd:GroupProfile","pd:Income","pd:Interest","pd:Job","pd:Language","pd:LinkClicked","pd:Name","pd:ServiceConsumptionBehavior"]}', 'app', '', 1795512210313964, 1827048210311017, 'customer-portal', 1795512210313964);
INSERT INTO public.consent_event VALUES ('retail', '\x049ff9f706e27b6cb00918a732966981', 2, '01a20cde-1392-7d06-82ff-58e0a8ab9b75', 'personalised-offers', 'withdrawn', '', 0, '', '', '', '{}', 'app', '', 1795512210322993, 0, 'customer-portal', 1795512210322993);


--
-- Data for Name: consent_state; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.consent_state VALUES ('retail', '\x98954133242ea73bd45c1a822ee9e663', 'personalised-offers', 'consent', 1, '01a20cde-137a-73df-a295-8ad184eb8540', 'given', 'offers', 2, 1827048210295033, 'pd:Age,pd:BankAccount,pd:BirthDate,pd:Communication,pd:EmailAddress,pd:FinancialAccount,pd:GroupProfile,pd:Income,pd:Interest,pd:Job,pd:Language,pd:LinkClicked,pd:Name,pd:ServiceConsumptionBehavior');
INSERT INTO public.consent_state VALUES ('retail', '\x049ff9f706e27b6cb00918a732966981', 'personalised-offers', 'consent', 2, '01a20cde-1392-7d06-82ff-58e0a8ab9b75', 'withdrawn', '', 0, 0, '');


--
-- Data for Name: erasure_evidence; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: log; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.log VALUES (1, 'datavault.local/log', 7, 7, 'active');


--
-- Data for Name: log_checkpoint; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.log_checkpoint VALUES (1, 7, '\x9d565d017995f5ede9dd7235f890ca25a30a4bfd76c1920700f147ce336f1fc8', 'datavault.local/log
7
nVZdAXmV9e3p3XI1+JDKJaMKS/12wZIHAPFHzjNvH8g=

— datavault.local/log 3RuGgiShGQzPQWzKfcmmLCFSTBuYeeanuRR6vIwvrZ96R2rDEUB7VJeGY379Xj2JA+7sTjTKn+7BhGOu+kAsqwFyQwc=
', 1795512210350223);


--
-- Data for Name: log_entry; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.log_entry VALUES (1, 0, '01a20cde-1372-7389-a42a-4304f247deee', '\x7b22616374696f6e223a227772697465222c2261747472696275746573223a7b22656d61696c223a7b22616374223a227772697465222c226261736573223a5b226f7065726174696f6e225d2c2272756c65223a2277726974652d696d706f7274227d2c22676976656e2d6e616d65223a7b22616374223a227772697465222c226261736573223a5b226f7065726174696f6e225d2c2272756c65223a2277726974652d696d706f7274227d2c22696e636f6d65223a7b22616374223a227772697465222c226261736573223a5b226f7065726174696f6e225d2c2272756c65223a2277726974652d696d706f7274227d7d2c2263616c6c6572223a22696d706f72746572222c2264657461696c223a7b226a7572697364696374696f6e73223a224555227d2c226964223a2230316132306364652d313337322d373338392d613432612d343330346632343764656565222c226964656e74697479223a227370696666653a2f2f62616e6b2e6578616d706c652f696d706f72746572222c226f7574636f6d65223a22617574686f7269736564222c22706f6c696379223a2236376136356563306165343761643261646238636432656432323431646534613433633836386135343239326638386237333965636264646339336538643637222c2272657175657374223a2230316132306364652d313336362d376364652d623537322d356631616436663462333931222c227375626a656374223a226237356661656261316165623563613130376532353939643636653364313338222c2274656e616e74223a2272657461696c222c2274696d65223a313739353531323231303239303932392c2276223a317d', '\x8d82f3a58fe5c23394b1549640402a304efb8c337b6dfd92786903640733cd2b');
INSERT INTO public.log_entry VALUES (1, 1, '01a20cde-137d-775b-ab39-17ea41df62ed', '\x7b22616374696f6e223a22636f6e73656e742e7265636f7264222c2263616c6c6572223a22637573746f6d65722d706f7274616c222c22636f6e73656e7473223a5b2230316132306364652d313337612d373364662d613239352d386164313834656238353430225d2c226964223a2230316132306364652d313337642d373735622d616233392d313765613431646636326564222c226964656e74697479223a227370696666653a2f2f62616e6b2e6578616d706c652f637573746f6d65722d706f7274616c222c226f7574636f6d65223a22617574686f7269736564222c22706f6c696379223a2236376136356563306165343761643261646238636432656432323431646534613433633836386135343239326638386237333965636264646339336538643637222c22707572706f7365223a22706572736f6e616c697365642d6f6666657273222c2272657175657374223a2230316132306364652d313337372d373935382d396462382d626366656130623034666465222c227375626a656374223a226237356661656261316165623563613130376532353939643636653364313338222c2274656e616e74223a2272657461696c222c2274696d65223a313739353531323231303330313532312c2276223a317d', '\xb8515e2547e26b74a6594943b8f31fef51e3c5ce96e10f6204e66a8a39cb44f6');
INSERT INTO public.log_entry VALUES (1, 2, '01a20cde-1384-7875-b46b-847d706b0d54', '\x7b22616374696f6e223a227772697465222c2261747472696275746573223a7b22656d61696c223a7b22616374223a227772697465222c226261736573223a5b226f7065726174696f6e225d2c2272756c65223a2277726974652d696d706f7274227d2c22676976656e2d6e616d65223a7b22616374223a227772697465222c226261736573223a5b226f7065726174696f6e225d2c2272756c65223a2277726974652d696d706f7274227d2c22696e636f6d65223a7b22616374223a227772697465222c226261736573223a5b226f7065726174696f6e225d2c2272756c65223a2277726974652d696d706f7274227d7d2c2263616c6c6572223a22696d706f72746572222c2264657461696c223a7b226a7572697364696374696f6e73223a224555227d2c226964223a2230316132306364652d313338342d373837352d623436622d383437643730366230643534222c226964656e74697479223a227370696666653a2f2f62616e6b2e6578616d706c652f696d706f72746572222c226f7574636f6d65223a22617574686f7269736564222c22706f6c696379223a2236376136356563306165343761643261646238636432656432323431646534613433633836386135343239326638386237333965636264646339336538643637222c2272657175657374223a2230316132306364652d313337662d373561622d623834302d316332633863633031633562222c227375626a656374223a226563336635333236343762623465393233333862373861313365623438316130222c2274656e616e74223a2272657461696c222c2274696d65223a313739353531323231303330383533362c2276223a317d', '\x9f84d3ae65fdd6dae803cb706f68619271f77630e7a1ee9ab1d7ead7d55d79ba');
INSERT INTO public.log_entry VALUES (1, 3, '01a20cde-138b-7afb-9428-b50b89ab94a7', '\x7b22616374696f6e223a22636f6e73656e742e7265636f7264222c2263616c6c6572223a22637573746f6d65722d706f7274616c222c22636f6e73656e7473223a5b2230316132306364652d313338392d373937642d386363382d353463623439316133326464225d2c226964223a2230316132306364652d313338622d376166622d393432382d623530623839616239346137222c226964656e74697479223a227370696666653a2f2f62616e6b2e6578616d706c652f637573746f6d65722d706f7274616c222c226f7574636f6d65223a22617574686f7269736564222c22706f6c696379223a2236376136356563306165343761643261646238636432656432323431646534613433633836386135343239326638386237333965636264646339336538643637222c22707572706f7365223a22706572736f6e616c697365642d6f6666657273222c2272657175657374223a2230316132306364652d313338362d376666622d626263362d303366666533636563346530222c227375626a656374223a226563336635333236343762623465393233333862373861313365623438316130222c2274656e616e74223a2272657461696c222c2274696d65223a313739353531323231303331353037342c2276223a317d', '\xa3ba0fe375079358c61820de2864fcbdec892954d221f2508d29612484de93d3');
INSERT INTO public.log_entry VALUES (1, 4, '01a20cde-1393-70bf-aaa3-af3b9e7ecca3', '\x7b22616374696f6e223a22636f6e73656e742e7769746864726177222c2263616c6c6572223a22637573746f6d65722d706f7274616c222c22636f6e73656e7473223a5b2230316132306364652d313339322d376430362d383266662d353865306138616239623735225d2c226964223a2230316132306364652d313339332d373062662d616161332d616633623965376563636133222c226964656e74697479223a227370696666653a2f2f62616e6b2e6578616d706c652f637573746f6d65722d706f7274616c222c226f7574636f6d65223a22617574686f7269736564222c22706f6c696379223a2236376136356563306165343761643261646238636432656432323431646534613433633836386135343239326638386237333965636264646339336538643637222c22707572706f7365223a22706572736f6e616c697365642d6f6666657273222c2272657175657374223a2230316132306364652d313339302d373563302d616332642d623631623761393733346434222c227375626a656374223a226563336635333236343762623465393233333862373861313365623438316130222c2274656e616e74223a2272657461696c222c2274696d65223a313739353531323231303332333935392c2276223a317d', '\x1b107addab308453fa65fe3c69e05c3751e9aef8b276e3a1fa08f34b3560a0bf');
INSERT INTO public.log_entry VALUES (1, 5, '01a20cde-139c-7e18-8e56-474678e83103', '\x7b22616374696f6e223a227772697465222c2261747472696275746573223a7b22656d61696c223a7b22616374223a227772697465222c226261736573223a5b226f7065726174696f6e225d2c2272756c65223a2277726974652d696d706f7274227d7d2c2263616c6c6572223a22696d706f72746572222c2264657461696c223a7b226a7572697364696374696f6e73223a224555222c226a7572697364696374696f6e735f6265666f7265223a224555227d2c226964223a2230316132306364652d313339632d376531382d386535362d343734363738653833313033222c226964656e74697479223a227370696666653a2f2f62616e6b2e6578616d706c652f696d706f72746572222c226f7574636f6d65223a22617574686f7269736564222c22706f6c696379223a2236376136356563306165343761643261646238636432656432323431646534613433633836386135343239326638386237333965636264646339336538643637222c2272657175657374223a2230316132306364652d313339382d373033622d396339632d653139623434356261396531222c227375626a656374223a226237356661656261316165623563613130376532353939643636653364313338222c2274656e616e74223a2272657461696c222c2274696d65223a313739353531323231303333323736342c2276223a317d', '\xe5886269760e2e28d714e80def1cef161b5403be045ef8cedeae4518492fa896');
INSERT INTO public.log_entry VALUES (1, 6, '01a20cde-13a2-7b5f-9647-62986d69a428', '\x7b22616374696f6e223a2272656164222c2261747472696275746573223a7b22656d61696c223a7b22616374223a22726561642e636c656172222c226261736573223a5b226c65676974696d6174652d696e746572657374222c227269676874732d6f662d6f7468657273225d2c2272756c65223a2266726175642d636f6e74616374227d7d2c2263616c6c6572223a2266726175642d646574656374696f6e222c226964223a2230316132306364652d313361322d376235662d393634372d363239383664363961343238222c226964656e74697479223a227370696666653a2f2f62616e6b2e6578616d706c652f66726175642d646574656374696f6e222c226f7574636f6d65223a22617574686f7269736564222c22706f6c696379223a2236376136356563306165343761643261646238636432656432323431646534613433633836386135343239326638386237333965636264646339336538643637222c22707572706f7365223a2266726175642d646574656374696f6e222c22726571756972655f616c6c223a302c227375626a656374223a226237356661656261316165623563613130376532353939643636653364313338222c2274656e616e74223a2272657461696c222c2274696d65223a313739353531323231303333383237332c2276223a317d', '\x77f5f8d45f69687c1ae994d8caf2a83b79541f693d935ca20a0c221072f8607b');


--
-- Data for Name: log_key; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.log_key VALUES (1, 1, 'local', 1, '\x443ffd35ea5668b2675595c1f470b9c496440d3f5db8019256c09b4688041478', -1, 1795512210272961);


--
-- Data for Name: log_tile; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.log_tile VALUES (1, 0, 0, '\x8d82f3a58fe5c23394b1549640402a304efb8c337b6dfd92786903640733cd2bb8515e2547e26b74a6594943b8f31fef51e3c5ce96e10f6204e66a8a39cb44f69f84d3ae65fdd6dae803cb706f68619271f77630e7a1ee9ab1d7ead7d55d79baa3ba0fe375079358c61820de2864fcbdec892954d221f2508d29612484de93d31b107addab308453fa65fe3c69e05c3751e9aef8b276e3a1fa08f34b3560a0bfe5886269760e2e28d714e80def1cef161b5403be045ef8cedeae4518492fa89677f5f8d45f69687c1ae994d8caf2a83b79541f693d935ca20a0c221072f8607b');


--
-- Data for Name: outbox; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.outbox VALUES (1, 1, 'event', 'datavault.local/log/events/00000000000000000004.json', '\x7b226368616e6e656c223a22617070222c226576656e74223a2230316132306364652d313339322d376430362d383266662d353865306138616239623735222c226a7572697364696374696f6e223a22222c226b696e64223a22636f6e73656e74222c22707572706f7365223a22706572736f6e616c697365642d6f6666657273222c227265636f726465645f6174223a313739353531323231303332323939332c227265636f726465645f6279223a22637573746f6d65722d706f7274616c222c227374617465223a2277697468647261776e222c227375626a656374223a223034396666396637303665323762366362303039313861373332393636393831222c2274656e616e74223a2272657461696c227d', 1795512210324393, 1795512210380801);
INSERT INTO public.outbox VALUES (2, 1, 'checkpoint', 'datavault.local/log/checkpoints/00000000000000000007', '\x646174617661756c742e6c6f63616c2f6c6f670a370a6e565a6441586d5639653370335849312b4a444b4a614d4b532f3132775a4948415046487a6a4e764838673d0a0ae2809420646174617661756c742e6c6f63616c2f6c6f6720335275476769536847517a5051577a4b66636d6d4c434653544275596565616e7552523676497776725a39365232724445554237564a654759333739586a324a412b3773546a544b6e2b374268474f752b6b4173717746795177633d0a', 1795512210350223, 1795512210380801);


--
-- Data for Name: quota_use; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: request; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.request VALUES ('retail', 'importer', '01a20cde-1366-7cde-b572-5f1ad6f4b391', '01a20cde-1372-7389-a42a-4304f247deee', '\xe60844bed2ce2d6b87ec8c40d16bd57915e8d5b7b732da4ef68c15fe9c152d49', '\x7b2276657273696f6e73223a5b5b22656d61696c222c315d2c5b22696e636f6d65222c315d2c5b22676976656e2d6e616d65222c315d5d2c2263726561746564223a747275657d', 1795512210291015);
INSERT INTO public.request VALUES ('retail', 'customer-portal', '01a20cde-1377-7958-9db8-bcfea0b04fde', '01a20cde-137d-775b-ab39-17ea41df62ed', '\x5544dc2f4e8e08c042c2e7d45586ee10c3ecfcac278bd906d3dd5a27e7e7f529', '\x7b226576656e74223a2230316132306364652d313337612d373364662d613239352d386164313834656238353430222c22736571223a317d', 1795512210301549);
INSERT INTO public.request VALUES ('retail', 'importer', '01a20cde-137f-75ab-b840-1c2c8cc01c5b', '01a20cde-1384-7875-b46b-847d706b0d54', '\x55bc2c001a946f10de1355b9531834fce931a15c8c87a96958dfc437582f3eec', '\x7b2276657273696f6e73223a5b5b22656d61696c222c315d2c5b22696e636f6d65222c315d2c5b22676976656e2d6e616d65222c315d5d2c2263726561746564223a747275657d', 1795512210308604);
INSERT INTO public.request VALUES ('retail', 'customer-portal', '01a20cde-1386-7ffb-bbc6-03ffe3cec4e0', '01a20cde-138b-7afb-9428-b50b89ab94a7', '\xa9f3efda66facc3e37284b0d69db839f9a9c4522fee150fcd29f9ae3ec61d401', '\x7b226576656e74223a2230316132306364652d313338392d373937642d386363382d353463623439316133326464222c22736571223a317d', 1795512210315094);
INSERT INTO public.request VALUES ('retail', 'customer-portal', '01a20cde-1390-75c0-ac2d-b61b7a9734d4', '01a20cde-1393-70bf-aaa3-af3b9e7ecca3', '\x019db2f02c5b8d440b2c318cca7faa815415fb684bfe5f7834e8f4e1ce260e05', '\x7b226576656e74223a2230316132306364652d313339322d376430362d383266662d353865306138616239623735222c22736571223a327d', 1795512210323979);
INSERT INTO public.request VALUES ('retail', 'importer', '01a20cde-1398-703b-9c9c-e19b445ba9e1', '01a20cde-139c-7e18-8e56-474678e83103', '\x0d48039fd848e4e40378adca78d33afbfdffa42dca83568e0b997c06144a3b5b', '\x7b2276657273696f6e73223a5b5b22656d61696c222c325d5d2c2263726561746564223a66616c73657d', 1795512210332827);


--
-- Data for Name: schema_info; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.schema_info VALUES ('serves_from', '0003');


--
-- Data for Name: subject; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.subject VALUES ('retail', '\x049ff9f706e27b6cb00918a732966981', 'ec3f532647bb4e92338b78a13eb481a0', 'EU', 0, 2, 1795512210305333, NULL, '');
INSERT INTO public.subject VALUES ('retail', '\x98954133242ea73bd45c1a822ee9e663', 'b75faeba1aeb5ca107e2599d66e3d138', 'EU', 0, 1, 1795512210281444, NULL, '');


--
-- Data for Name: subject_key; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.subject_key VALUES ('retail', '\x98954133242ea73bd45c1a822ee9e663', '\x5588991ab3d880d0b30a54178ec94c30e4e44816653894abe00003c3d1bea50c', 'contact', '\x6c6f63616c3a76313a7a364a714876464d3961456c334c58657671564b595036453364676f794d6177306a4336304252562b41746a354e69456f3567372b5969687259414e49304e7a514d3255784e65422f6a6b6846574364', 1795512210288348, 0);
INSERT INTO public.subject_key VALUES ('retail', '\x98954133242ea73bd45c1a822ee9e663', '\xeb068431130ed44b93cdd559902c05c61bbf4fc998d75f31d120fadc1acf6465', 'financial', '\x6c6f63616c3a76313a3177593773387a36596d464f384a524e6b5030726d697a644944512f646b664344744f3334343834575a6e354a6c354a506e397541334c696c615a71486355635243646e663872626143476b30316d47', 1795512210288348, 0);
INSERT INTO public.subject_key VALUES ('retail', '\x98954133242ea73bd45c1a822ee9e663', '\x77caa681ec2af17c428deff844d0bebce959dc409acdf57dd01a74c730abc569', 'identity', '\x6c6f63616c3a76313a5178473658324f6c434774372f4e7231746f39777133757668374e6f7646704f58776930536c416b69764342594b652b3046346d793972566d736d434f5459337244797a716249384742694d6a324750', 1795512210288348, 0);
INSERT INTO public.subject_key VALUES ('retail', '\x049ff9f706e27b6cb00918a732966981', '\x838662610607a198344212a1bdf13e139961fd8176f42473bd6affa226cddc30', 'contact', '\x6c6f63616c3a76313a77774a4f4f66305575496c7057416d6359755251722f55514b73706a7967526e654161645247474a323673354b3779647162756e4f782b7750467536347137516167446c46412b64756671507a724471', 1795512210307699, 0);
INSERT INTO public.subject_key VALUES ('retail', '\x049ff9f706e27b6cb00918a732966981', '\xe8c78037936224f9653174e5b58a5beec6829bd35b4803340d6c3877db3ffc8b', 'financial', '\x6c6f63616c3a76313a78457738706c78325368586168544e676734495a4f367a55323635725945677a2b2b3258454179366534325162466a397777545642487831335771674764676d39794e49493665656475704c5a715153', 1795512210307699, 0);
INSERT INTO public.subject_key VALUES ('retail', '\x049ff9f706e27b6cb00918a732966981', '\xa1080a735da8e492d659d55aab1723dc3a68d594fe39e82339e5990dca236f4b', 'identity', '\x6c6f63616c3a76313a44506c63474f2b59364e2f48536d4d4c64416969354c777066756d793163374b696f4a78334c6d3647316e79634f466b565044514b6679665955652f345563727557562b4d4175307362392f5a355163', 1795512210307699, 0);


--
-- Data for Name: subject_lookup; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.subject_lookup VALUES ('retail', '\xa75d1d655613631b76019b9b18866692458a0fc553f1ee69d9935470f825bf1a', 1, '\x98954133242ea73bd45c1a822ee9e663');
INSERT INTO public.subject_lookup VALUES ('retail', '\xc391c349e3fa3483d28f94cd0e713c83a5d4de425004de556dec64db6bfeee0e', 1, '\x049ff9f706e27b6cb00918a732966981');


--
-- Data for Name: tenant_key; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.tenant_key VALUES ('retail', 'lookup', 1, '\x6c6f63616c3a76313a4a4742446a782b624b586370534b66326743514a686d6862475232387a2f307373336f57366761776e612f57744d393977696457544c76616270774d34457978424a71336f6c6230716a634a64364159', 0);
INSERT INTO public.tenant_key VALUES ('retail', 'pseudonym', 1, '\x6c6f63616c3a76313a7337356b5a376f55337848696a70472b4a334555585768394478734a70675542397069757850716b4e6a362b3048722b506f374f4b74756349727a414c6243556d785239417550442b37435461766b33', 0);


--
-- Name: outbox_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.outbox_id_seq', 2, true);


--
-- Name: alembic_version alembic_version_pkc; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);


--
-- Name: attribute_value pk_attribute_value; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.attribute_value
    ADD CONSTRAINT pk_attribute_value PRIMARY KEY (tenant, subject, attribute);


--
-- Name: audit_index pk_audit_index; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.audit_index
    ADD CONSTRAINT pk_audit_index PRIMARY KEY (log, index);


--
-- Name: bundle pk_bundle; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.bundle
    ADD CONSTRAINT pk_bundle PRIMARY KEY (hash);


--
-- Name: consent_event pk_consent_event; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.consent_event
    ADD CONSTRAINT pk_consent_event PRIMARY KEY (tenant, subject, seq);


--
-- Name: consent_state pk_consent_state; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.consent_state
    ADD CONSTRAINT pk_consent_state PRIMARY KEY (tenant, subject, purpose, lane);


--
-- Name: erasure_evidence pk_erasure_evidence; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.erasure_evidence
    ADD CONSTRAINT pk_erasure_evidence PRIMARY KEY (tenant, receipt);


--
-- Name: log pk_log; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.log
    ADD CONSTRAINT pk_log PRIMARY KEY (log);


--
-- Name: log_checkpoint pk_log_checkpoint; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.log_checkpoint
    ADD CONSTRAINT pk_log_checkpoint PRIMARY KEY (log, size);


--
-- Name: log_entry pk_log_entry; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.log_entry
    ADD CONSTRAINT pk_log_entry PRIMARY KEY (log, index);


--
-- Name: log_key pk_log_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.log_key
    ADD CONSTRAINT pk_log_key PRIMARY KEY (log, number);


--
-- Name: log_tile pk_log_tile; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.log_tile
    ADD CONSTRAINT pk_log_tile PRIMARY KEY (log, level, index);


--
-- Name: outbox pk_outbox; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT pk_outbox PRIMARY KEY (id);


--
-- Name: quota_use pk_quota_use; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.quota_use
    ADD CONSTRAINT pk_quota_use PRIMARY KEY (tenant, caller, purpose, hour);


--
-- Name: request pk_request; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.request
    ADD CONSTRAINT pk_request PRIMARY KEY (tenant, caller, request_id);


--
-- Name: schema_info pk_schema_info; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.schema_info
    ADD CONSTRAINT pk_schema_info PRIMARY KEY (name);


--
-- Name: subject pk_subject; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.subject
    ADD CONSTRAINT pk_subject PRIMARY KEY (tenant, subject);


--
-- Name: subject_key pk_subject_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.subject_key
    ADD CONSTRAINT pk_subject_key PRIMARY KEY (tenant, subject, dek_id);


--
-- Name: subject_lookup pk_subject_lookup; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.subject_lookup
    ADD CONSTRAINT pk_subject_lookup PRIMARY KEY (tenant, mac);


--
-- Name: tenant_key pk_tenant_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.tenant_key
    ADD CONSTRAINT pk_tenant_key PRIMARY KEY (tenant, use, version);


--
-- Name: consent_event uq_consent_event_id; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.consent_event
    ADD CONSTRAINT uq_consent_event_id UNIQUE (id);


--
-- Name: log uq_log_origin; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.log
    ADD CONSTRAINT uq_log_origin UNIQUE (origin);


--
-- Name: ix_audit_index_log_tenant_caller_index; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_audit_index_log_tenant_caller_index ON public.audit_index USING btree (log, tenant, caller, index);


--
-- Name: ix_audit_index_log_tenant_subject_index; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_audit_index_log_tenant_subject_index ON public.audit_index USING btree (log, tenant, subject, index);


--
-- Name: ix_audit_index_log_tenant_time; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_audit_index_log_tenant_time ON public.audit_index USING btree (log, tenant, "time");


--
-- Name: ix_outbox_undelivered; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_outbox_undelivered ON public.outbox USING btree (log, id) WHERE (delivered_at IS NULL);


--
-- Name: ix_request_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_request_created_at ON public.request USING btree (created_at);


--
-- Name: ix_subject_lookup_tenant_subject; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_subject_lookup_tenant_subject ON public.subject_lookup USING btree (tenant, subject);


--
-- Name: uq_log_entry_log_record_id; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX uq_log_entry_log_record_id ON public.log_entry USING btree (log, record_id);


--
-- Name: attribute_value fk_attribute_value_subject; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.attribute_value
    ADD CONSTRAINT fk_attribute_value_subject FOREIGN KEY (tenant, subject) REFERENCES public.subject(tenant, subject);


--
-- Name: audit_index fk_audit_index_log; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.audit_index
    ADD CONSTRAINT fk_audit_index_log FOREIGN KEY (log) REFERENCES public.log(log);


--
-- Name: consent_event fk_consent_event_subject; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.consent_event
    ADD CONSTRAINT fk_consent_event_subject FOREIGN KEY (tenant, subject) REFERENCES public.subject(tenant, subject);


--
-- Name: consent_state fk_consent_state_subject; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.consent_state
    ADD CONSTRAINT fk_consent_state_subject FOREIGN KEY (tenant, subject) REFERENCES public.subject(tenant, subject);


--
-- Name: log_checkpoint fk_log_checkpoint_log; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.log_checkpoint
    ADD CONSTRAINT fk_log_checkpoint_log FOREIGN KEY (log) REFERENCES public.log(log);


--
-- Name: log_entry fk_log_entry_log; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.log_entry
    ADD CONSTRAINT fk_log_entry_log FOREIGN KEY (log) REFERENCES public.log(log);


--
-- Name: log_key fk_log_key_log; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.log_key
    ADD CONSTRAINT fk_log_key_log FOREIGN KEY (log) REFERENCES public.log(log);


--
-- Name: log_tile fk_log_tile_log; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.log_tile
    ADD CONSTRAINT fk_log_tile_log FOREIGN KEY (log) REFERENCES public.log(log);


--
-- Name: outbox fk_outbox_log; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT fk_outbox_log FOREIGN KEY (log) REFERENCES public.log(log);


--
-- Name: subject_key fk_subject_key_subject; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.subject_key
    ADD CONSTRAINT fk_subject_key_subject FOREIGN KEY (tenant, subject) REFERENCES public.subject(tenant, subject);


--
-- PostgreSQL database dump complete
--


