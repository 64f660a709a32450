//! `etcdserverpb.Auth`: users and roles, and tokens for passwords.
//!
//! Changes go through the log, in the client's own bytes but for passwords: those are hashed here, and nothing behind this file
//! sees one. Who may do what is the store's to say.

use bytes::Bytes;
use prost::Message;
use ring::rand::{SecureRandom, SystemRandom};
use vlot_proto::etcdserverpb::{
    AuthDisableResponse, AuthEnableResponse, AuthRoleAddRequest, AuthRoleAddResponse, AuthRoleDeleteRequest,
    AuthRoleDeleteResponse, AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest,
    AuthRoleGrantPermissionResponse, AuthRoleListResponse, AuthRoleRevokePermissionRequest,
    AuthRoleRevokePermissionResponse, AuthStatusResponse, AuthUserAddRequest, AuthUserAddResponse,
    AuthUserChangePasswordRequest, AuthUserChangePasswordResponse, AuthUserDeleteRequest, AuthUserDeleteResponse,
    AuthUserGetRequest, AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthUserListResponse,
    AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse, AuthenticateRequest, AuthenticateResponse, ResponseHeader,
};
use vlot_store::auth::{Asked, Asker, Auth, User};
use vlot_store::command::Tag;
use vlot_store::refusal::Refusal;
use vlot_store::store::Applied;

use super::{Caller, Services, decode, encode};
use crate::auth::is_base64;
use crate::rpc::Rpc;
use crate::status::Status;
use crate::store_machine::Proposal;

impl Services {
    /// Answers a call of this service.
    pub(super) async fn auth(&self, rpc: Rpc, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        match rpc {
            Rpc::AuthEnable => self.auth_enable(caller).await,
            Rpc::AuthDisable => {
                let header = self.change_auth(caller, Tag::AuthDisable, Bytes::new()).await?;
                Ok(encode(&AuthDisableResponse { header }))
            }
            Rpc::AuthStatus => self.auth_status(caller).await,
            Rpc::Authenticate => self.authenticate(caller, decode(bytes)?).await,
            Rpc::UserAdd => self.user_add(caller, decode(bytes)?).await,
            Rpc::UserChangePassword => self.user_change_password(caller, decode(bytes)?).await,
            Rpc::UserDelete => {
                let _: AuthUserDeleteRequest = decode(bytes.clone())?;
                let header = self.change_auth(caller, Tag::UserDelete, bytes).await?;
                Ok(encode(&AuthUserDeleteResponse { header }))
            }
            Rpc::UserGrantRole => {
                let _: AuthUserGrantRoleRequest = decode(bytes.clone())?;
                let header = self.change_auth(caller, Tag::UserGrantRole, bytes).await?;
                Ok(encode(&AuthUserGrantRoleResponse { header }))
            }
            Rpc::UserRevokeRole => {
                let _: AuthUserRevokeRoleRequest = decode(bytes.clone())?;
                let header = self.change_auth(caller, Tag::UserRevokeRole, bytes).await?;
                Ok(encode(&AuthUserRevokeRoleResponse { header }))
            }
            Rpc::RoleAdd => {
                let _: AuthRoleAddRequest = decode(bytes.clone())?;
                let header = self.change_auth(caller, Tag::RoleAdd, bytes).await?;
                Ok(encode(&AuthRoleAddResponse { header }))
            }
            Rpc::RoleDelete => {
                let _: AuthRoleDeleteRequest = decode(bytes.clone())?;
                let header = self.change_auth(caller, Tag::RoleDelete, bytes).await?;
                Ok(encode(&AuthRoleDeleteResponse { header }))
            }
            Rpc::RoleGrantPermission => {
                let _: AuthRoleGrantPermissionRequest = decode(bytes.clone())?;
                let header = self.change_auth(caller, Tag::RoleGrantPermission, bytes).await?;
                Ok(encode(&AuthRoleGrantPermissionResponse { header }))
            }
            Rpc::RoleRevokePermission => {
                let _: AuthRoleRevokePermissionRequest = decode(bytes.clone())?;
                let header = self.change_auth(caller, Tag::RoleRevokePermission, bytes).await?;
                Ok(encode(&AuthRoleRevokePermissionResponse { header }))
            }
            Rpc::UserGet => self.user_get(caller, decode(bytes)?).await,
            Rpc::UserList => self.user_list(caller).await,
            Rpc::RoleGet => self.role_get(caller, decode(bytes)?).await,
            Rpc::RoleList => self.role_list(caller).await,
            other => Err(Status::absent(other.path())),
        }
    }

    /// Turns authentication on, with a fresh key for its tokens: those from before it was turned off last are worth nothing.
    async fn auth_enable(&self, caller: &Caller) -> Result<Bytes, Status> {
        let mut token_key = [0; 32];
        SystemRandom::new().fill(&mut token_key).map_err(|_| Status::NO_RANDOM)?;
        let header = self.change_auth(caller, Tag::AuthEnable, Bytes::copy_from_slice(&token_key)).await?;
        Ok(encode(&AuthEnableResponse { header }))
    }

    /// Gives a token for a password. Nothing is written: a token stands for itself.
    async fn authenticate(&self, caller: &Caller, request: AuthenticateRequest) -> Result<Bytes, Status> {
        let AuthenticateRequest { name, password } = request;
        loop {
            self.store_group.barrier().await?;
            let auth = self.store_group.auth();
            if !auth.is_enabled() {
                return Err(Status::AUTH_NOT_ENABLED);
            }
            let user = auth.user(&name);
            let is_right = self.authenticator.check(Some(caller.from.ip()), &name, user, &password).await?;
            let user = user.ok_or(Status::AUTH_FAILED)?;
            if user.hash().is_none() {
                return Err(Status::NO_PASSWORD_USER);
            }
            if !is_right {
                return Err(Status::AUTH_FAILED);
            }
            // To check takes a while, and what was right then may be so no more.
            let auth = self.store_group.auth();
            let same = |now: &&User| now.generation() == user.generation();
            if let Some(user) = auth.user(&name).filter(same).filter(|_| auth.is_enabled()) {
                let token = self.authenticator.token(&auth, self.store_group.cluster_time(), &name, user)?;
                let header = Some(self.header(self.store_group.look(|store| store.revision()).await?));
                return Ok(encode(&AuthenticateResponse { header, token }));
            }
        }
    }

    /// Adds a user. As in etcd, a hash in the request is not heeded.
    async fn user_add(&self, caller: &Caller, mut request: AuthUserAddRequest) -> Result<Bytes, Status> {
        self.may_hash(caller).await?;
        let password = std::mem::take(&mut request.password);
        let has_password = !request.options.is_some_and(|options| options.no_password);
        request.hashed_password = if has_password { self.authenticator.hash(password).await? } else { String::new() };
        let header = self.change_auth(caller, Tag::UserAdd, request.encode_to_vec().into()).await?;
        Ok(encode(&AuthUserAddResponse { header }))
    }

    async fn user_change_password(
        &self,
        caller: &Caller,
        mut request: AuthUserChangePasswordRequest,
    ) -> Result<Bytes, Status> {
        self.may_hash(caller).await?;
        let password = std::mem::take(&mut request.password);
        if !password.is_empty() {
            request.hashed_password = self.authenticator.hash(password).await?;
        }
        let has_password = |auth: &Auth| auth.user(&request.name).is_some_and(|user| user.hash().is_some());
        if !is_base64(&request.hashed_password) && has_password(&self.store_group.auth()) {
            return Err(Status::NO_PASSWORD_USER);
        }
        let header = self.change_auth(caller, Tag::UserChangePassword, request.encode_to_vec().into()).await?;
        Ok(encode(&AuthUserChangePasswordResponse { header }))
    }

    /// Hashing is work, which is done for those alone that may ask for it.
    async fn may_hash(&self, caller: &Caller) -> Result<(), Status> {
        self.store_group.barrier().await?;
        self.require_root(caller)
    }

    async fn auth_status(&self, caller: &Caller) -> Result<Bytes, Status> {
        let (header, (enabled, auth_revision)) =
            self.see(caller, Asked::Administer, |auth| Ok((auth.is_enabled(), auth.revision()))).await?;
        Ok(encode(&AuthStatusResponse { header, enabled, auth_revision }))
    }

    async fn user_get(
        &self,
        caller: &Caller,
        AuthUserGetRequest { name }: AuthUserGetRequest,
    ) -> Result<Bytes, Status> {
        let roles = |auth: &Auth| {
            let user = auth.user(&name).ok_or(Refusal::UserNotFound)?;
            Ok(user.roles().map(str::to_owned).collect())
        };
        let (header, roles) = self.see(caller, Asked::User(&name), roles).await?;
        Ok(encode(&AuthUserGetResponse { header, roles }))
    }

    async fn user_list(&self, caller: &Caller) -> Result<Bytes, Status> {
        let names = |auth: &Auth| Ok(auth.users().map(|(name, _)| name.to_owned()).collect());
        let (header, users) = self.see(caller, Asked::Administer, names).await?;
        Ok(encode(&AuthUserListResponse { header, users }))
    }

    async fn role_get(
        &self,
        caller: &Caller,
        AuthRoleGetRequest { role }: AuthRoleGetRequest,
    ) -> Result<Bytes, Status> {
        let permissions = |auth: &Auth| {
            let role = auth.role(&role).ok_or(Refusal::RoleNotFound)?;
            Ok(role.permissions().to_vec())
        };
        let (header, perm) = self.see(caller, Asked::Role(&role), permissions).await?;
        Ok(encode(&AuthRoleGetResponse { header, perm }))
    }

    async fn role_list(&self, caller: &Caller) -> Result<Bytes, Status> {
        let names = |auth: &Auth| Ok(auth.roles().map(|(name, _)| name.to_owned()).collect());
        let (header, roles) = self.see(caller, Asked::Administer, names).await?;
        Ok(encode(&AuthRoleListResponse { header, roles }))
    }

    /// Replicates a change of users or roles, and completes the header of its reply.
    async fn change_auth(&self, caller: &Caller, tag: Tag, request: Bytes) -> Result<Option<ResponseHeader>, Status> {
        if request.len() > self.request_bytes_max {
            return Err(Status::REQUEST_TOO_LARGE);
        }
        self.require_name(caller).await?;
        let asker = caller.identity.clone().map(Asker::Client);
        match self.store_group.propose(Proposal::Request { asker, tag, request }).await?? {
            Applied::Auth { revision } => Ok(Some(self.header(revision))),
            _ => Err(Status::OTHER_ANSWER),
        }
    }

    /// Looks at users and roles as the cluster has agreed on them by now, if the caller may.
    async fn see<T>(
        &self,
        caller: &Caller,
        asked: Asked<'_>,
        see: impl FnOnce(&Auth) -> Result<T, Refusal>,
    ) -> Result<(Option<ResponseHeader>, T), Status> {
        self.store_group.barrier().await?;
        let looked = self.store_group.look(|store| {
            store.authorise(caller.identity.as_ref(), asked)?;
            Ok::<_, Refusal>((store.revision(), see(store.auth())?))
        });
        let (revision, seen) = looked.await??;
        Ok((Some(self.header(revision)), seen))
    }
}
